/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificates and keys as files: master opens them and hands the descriptors to the process keys, at start,
 * when they change, and when it is asked. It never reads a key itself. Symlinks are followed: certbot's
 * live/ has nothing else. A pair that cannot be used leaves the one before in use.
 */
#ifndef MASTER_CERTIFICATES_H
#define MASTER_CERTIFICATES_H

#include "base/log.h"
#include "ipc/calls.h"

/* Below state/tls: the one that is made when none is configured. */
#define OWN_CERTIFICATE "self-signed.pem"
#define OWN_KEY "self-signed.key"

struct certificate_file {
	struct str path, key_path;
	struct world_stat stat, key_stat; /* as they were when they were last handed over */
	char names[1000], text[400];
	uint16_t names_n, text_n;
	int64_t expires_ms;
};
struct certificates {
	struct world *w;
	struct mem *mem;
	struct log *log;
	const struct conf *conf;
	struct certificate_file *v;
	size_t n;
	struct str dir; /* state/tls */
	bool own;	/* none is configured: ours, in dir */
	bool busy;
};

/* Whether any listener offers TLS: without, there is no process keys. */
bool certificates_wanted(const struct conf *c);
/* Strings go to the arena. c->v is freed with certificates_done(). */
enum err certificates_init(struct certificates *c, struct world *w, struct log *log, const struct conf *conf,
			   struct arena *arena) MUST_CHECK;
void certificates_done(struct certificates *c);
enum certificates_which { CERTIFICATES_ALL, CERTIFICATES_CHANGED };
/*
 * Hands them to keys; makes one first when none is configured and ours is not there. *keys may become NULL
 * at any time: then nothing more is done.
 */
YIELDS void certificates_load(struct certificates *c, struct ipc **keys, enum certificates_which which);
/* Logs those that expire within two weeks. */
void certificates_look(struct certificates *c);
enum err certificates_status(const struct certificates *c, struct arena *arena, struct certificate_status **list_out,
			     size_t *n_out) MUST_CHECK;

#endif
