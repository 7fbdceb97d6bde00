/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What keys signs: the two things that a TLS server signs in a handshake, and nothing else. Whoever asks
 * parses strangers' bytes and may be in a stranger's hands: then it can open TLS connections as this server
 * while it lasts, but not sign certificates, mail or anything to be used elsewhere (P4).
 *
 *  K1  TLS 1.3: 64 blanks, "TLS 1.3, server CertificateVerify", NUL, a hash (RFC 8446 §4.4.3); never by
 *      PKCS #1.
 *  K2  TLS 1.2: two random values of 32 bytes and the parameters of an ECDHE exchange on a named curve
 *      (RFC 8422 §5.4), to their last byte.
 *  K3  With SHA-256, SHA-384 or SHA-512, or by Ed25519, which hashes itself.
 */
#ifndef KEYS_PERMIT_H
#define KEYS_PERMIT_H

#include "base/str.h"
#include "tls/tls.h"

/* digest: empty for a key that hashes itself. */
bool keys_permits(struct str digest, enum tls_padding padding, struct str bytes);

#endif
