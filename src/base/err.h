/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one error type. Every function that can fail returns `enum err`; ERR_NONE is 0.
 * The line that detects an error logs it, once; callers pass it on with TRY().
 * SMTP replies of class 4xx and 5xx are no errors (see smtp/reply.h).
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

enum err {
	ERR_NONE = 0,
	ERR_EOF,	/* the peer or the file ended in good order */
	ERR_TIMEOUT,	/* a deadline passed */
	ERR_CANCELLED,	/* the scope was cancelled, or the process is stopping */
	ERR_CLOSED,	/* the other end is gone (reset, broken pipe, process died) */
	ERR_LIMIT,	/* a declared bound would be exceeded */
	ERR_SYNTAX,	/* bytes do not follow their grammar */
	ERR_NOT_FOUND,	/* no such thing */
	ERR_EXISTS,	/* there is one already */
	ERR_DENIED,	/* not permitted */
	ERR_BUSY,	/* a resource is used up for the moment (EAGAIN, EMFILE, EBUSY) */
	ERR_NO_SPACE,	/* the disk or the quota is full */
	ERR_NO_MEMORY,	/* an allocation failed */
	ERR_IO,		/* the device failed; what it held is in doubt */
	ERR_CORRUPT,	/* stored data fails its own checks */
};

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define UNUSED __attribute__((unused))

/* Return early with the error of `x`, if it has one. The only macro with control flow. */
#define TRY(x)                                                                                     \
	do {                                                                                       \
		enum err try_err_ = (x);                                                           \
		if (try_err_ != ERR_NONE)                                                          \
			return try_err_;                                                           \
	} while (0)

/* A fixed English name, e.g. "timeout"; never NULL. */
const char *err_name(enum err e);

/* Map an errno value to the closest enum err; unknown values are ERR_IO. */
enum err err_from_errno(int errnum);

/* Asserts stay on in production: only for facts that remote input cannot influence. */
#define ASSERT(cond) ((cond) ? (void)0 : assert_failed(#cond, __FILE__, __LINE__))
_Noreturn void assert_failed(const char *cond, const char *file, int line);

#endif
