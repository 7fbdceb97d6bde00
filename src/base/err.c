/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of errors, the map from errno, and the end of a process whose own facts do not hold.
 */
#include "base/err.h"

#include <errno.h>
#include <stdio.h>

const char *err_name(enum err e)
{
	switch (e) {
	case ERR_NONE:
		return "none";
	case ERR_EOF:
		return "eof";
	case ERR_TIMEOUT:
		return "timeout";
	case ERR_CANCELLED:
		return "cancelled";
	case ERR_CLOSED:
		return "closed";
	case ERR_LIMIT:
		return "limit";
	case ERR_SYNTAX:
		return "syntax";
	case ERR_NOT_FOUND:
		return "not-found";
	case ERR_EXISTS:
		return "exists";
	case ERR_DENIED:
		return "denied";
	case ERR_BUSY:
		return "busy";
	case ERR_NO_SPACE:
		return "no-space";
	case ERR_NO_MEMORY:
		return "no-memory";
	case ERR_IO:
		return "io";
	case ERR_CORRUPT:
		return "corrupt";
	}
	return "unknown";
}

/* One row per errno value that means something other than "the device failed". */
static const struct {
	int errnum;
	enum err err;
} errno_map[] = {
	{ 0, ERR_NONE },
	{ EAGAIN, ERR_BUSY },
	{ EBUSY, ERR_BUSY },
	{ EMFILE, ERR_BUSY },
	{ ENFILE, ERR_BUSY },
	{ ENOBUFS, ERR_BUSY },
	{ EADDRINUSE, ERR_BUSY },
	{ ENOMEM, ERR_NO_MEMORY },
	{ ENOSPC, ERR_NO_SPACE },
	{ EDQUOT, ERR_NO_SPACE },
	{ EFBIG, ERR_LIMIT },
	{ E2BIG, ERR_LIMIT },
	{ EMSGSIZE, ERR_LIMIT },
	{ ENAMETOOLONG, ERR_LIMIT },
	{ ENOENT, ERR_NOT_FOUND },
	{ ENOTDIR, ERR_NOT_FOUND },
	{ ESRCH, ERR_NOT_FOUND },
	{ EEXIST, ERR_EXISTS },
	{ ENOTEMPTY, ERR_EXISTS },
	{ EACCES, ERR_DENIED },
	{ EPERM, ERR_DENIED },
	{ EROFS, ERR_DENIED },
	{ ELOOP, ERR_DENIED }, /* a symbolic link where none may be */
	{ EXDEV, ERR_DENIED }, /* openat2(RESOLVE_BENEATH): the path leaves its root */
	{ ETIMEDOUT, ERR_TIMEOUT },
	{ ECANCELED, ERR_CANCELLED },
	{ ECONNRESET, ERR_CLOSED },
	{ ECONNREFUSED, ERR_CLOSED },
	{ ECONNABORTED, ERR_CLOSED },
	{ EPIPE, ERR_CLOSED },
	{ ENOTCONN, ERR_CLOSED },
	{ ESHUTDOWN, ERR_CLOSED },
	{ EHOSTUNREACH, ERR_CLOSED },
	{ EHOSTDOWN, ERR_CLOSED },
	{ ENETUNREACH, ERR_CLOSED },
	{ ENETDOWN, ERR_CLOSED },
	{ ENETRESET, ERR_CLOSED },
};

enum err err_from_errno(int errnum)
{
	for (size_t i = 0; i < sizeof errno_map / sizeof errno_map[0]; i++)
		if (errno_map[i].errnum == errnum)
			return errno_map[i].err;
	return ERR_IO;
}

_Noreturn void assert_failed(const char *cond, const char *file, int line)
{
	char text[512];

	snprintf(text, sizeof text, "%s:%d: assertion failed: %s\n", file, line, cond);
	/* allowed here: the last words of a process, when nothing can be trusted */
	fputs(text, stderr);
	__builtin_trap();
}
