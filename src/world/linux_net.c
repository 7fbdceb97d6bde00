/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Linux world's sockets. The bytes that arrive on TCP are a stranger's; those on local packets come
 * from our own processes, one of which may be compromised: lengths and descriptors are checked.
 */
#include "world/linux_internal.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define SEND_PARTS 16
#define LISTEN_BACKLOG 4096
#define UDP_BIND_TRIES 20u
#define PACKET_BUFFER_BYTES (4 << 20)

union sock_addr {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
	struct sockaddr_un path;
};

static enum err net_err(void)
{
	switch (errno) {
	case EAGAIN:
	case EINTR:
	case EINPROGRESS:
		return ERR_BUSY;
	case EMFILE:
	case ENFILE:
	case ENOBUFS:
	case ENOMEM:
		return ERR_LIMIT;
	case ECONNRESET:
	case EPIPE:
	case ETIMEDOUT:
	case ECONNREFUSED:
	case EHOSTUNREACH:
	case ENETUNREACH:
	case ENOTCONN:
		return ERR_CLOSED;
	default:
		return errno_err();
	}
}

static socklen_t to_sock_addr(const struct ip *ip, union sock_addr *a)
{
	memset(a, 0, sizeof *a);
	if (ip->family == IP_V4) {
		a->v4.sin_family = AF_INET;
		a->v4.sin_port = htons(ip->port);
		memcpy(&a->v4.sin_addr, ip->b, 4);
		return sizeof a->v4;
	}
	a->v6.sin6_family = AF_INET6;
	a->v6.sin6_port = htons(ip->port);
	if (ip->family == IP_V6)
		memcpy(&a->v6.sin6_addr, ip->b, 16);
	return sizeof a->v6;
}

static struct ip from_sock_addr(const union sock_addr *a)
{
	struct ip ip = { .family = IP_UNIX };
	if (a->any.sa_family == AF_INET) {
		ip = (struct ip){ .family = IP_V4, .bits = 32, .port = ntohs(a->v4.sin_port) };
		memcpy(ip.b, &a->v4.sin_addr, 4);
	} else if (a->any.sa_family == AF_INET6) {
		ip = (struct ip){ .family = IP_V6, .bits = 128, .port = ntohs(a->v6.sin6_port) };
		memcpy(ip.b, &a->v6.sin6_addr, 16);
		if (IN6_IS_ADDR_V4MAPPED(&a->v6.sin6_addr)) {
			memmove(ip.b, ip.b + 12, 4);
			memset(ip.b + 4, 0, 12);
			ip.family = IP_V4;
			ip.bits = 32;
		}
	}
	return ip;
}

enum err world_pair(struct world *w UNUSED, int fds_out[2])
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds_out) != 0)
		return net_err();
	for (int i = 0; i < 2; i++) {
		int bytes = PACKET_BUFFER_BYTES; /* SO_SNDBUFFORCE works as root only; then the default stays */
		if (setsockopt(fds_out[i], SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) != 0)
			(void)setsockopt(fds_out[i], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
	}
	return ERR_NONE;
}

static enum err bind_and_listen(int fd, const struct ip *addr, int reuse_port)
{
	union sock_addr a;
	int one = 1, zero = 0;
	socklen_t n = to_sock_addr(addr, &a);
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* accepted sockets inherit it */
	if (reuse_port && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one) != 0)
		return net_err();
	if (a.any.sa_family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, addr->family == IP_NONE ? &zero : &one, sizeof one);
	if (bind(fd, &a.any, n) != 0 || listen(fd, LISTEN_BACKLOG) != 0)
		return errno == EADDRINUSE ? ERR_EXISTS : errno == EADDRNOTAVAIL ? ERR_NOT_FOUND : net_err();
	return ERR_NONE;
}

enum err world_listen(struct world *w, const struct ip *addr, int reuse_port, int *fd_out)
{
	struct ip to = *addr;
	int family = to.family == IP_V4 ? AF_INET : AF_INET6;
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 && to.family == IP_NONE && errno == EAFNOSUPPORT) { /* a kernel without IPv6 */
		to.family = IP_V4;
		memset(to.b, 0, sizeof to.b);
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	}
	if (fd < 0)
		return net_err();
	enum err e = bind_and_listen(fd, &to, reuse_port);
	if (e != ERR_NONE)
		world_close(w, fd);
	else
		*fd_out = fd;
	return e;
}

static enum err path_addr(struct str path, union sock_addr *a)
{
	memset(a, 0, sizeof *a);
	a->path.sun_family = AF_UNIX;
	if (path.n >= sizeof a->path.sun_path)
		return ERR_LIMIT;
	memcpy(a->path.sun_path, path.p, path.n);
	return ERR_NONE;
}

static enum err connect_unix(struct world *w, int type, struct str path, int *fd_out)
{
	union sock_addr a;
	TRY(path_addr(path, &a));
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return net_err();
	if (connect(fd, &a.any, sizeof a.path) != 0) {
		enum err e = errno == ENOENT ? ERR_NOT_FOUND : net_err();
		world_close(w, fd);
		return e;
	}
	*fd_out = fd;
	return ERR_NONE;
}

enum err world_connect_path(struct world *w, struct str path, int *fd_out)
{
	return connect_unix(w, SOCK_SEQPACKET, path, fd_out);
}

enum err world_connect_stream_path(struct world *w, struct str path, int *fd_out)
{
	return connect_unix(w, SOCK_STREAM, path, fd_out);
}

enum err world_open_journal(struct world *w)
{
	union sock_addr a;
	struct timeval most = { .tv_usec = 100000 };
	TRY(path_addr(STR(WORLD_JOURNAL_PATH), &a));
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return net_err();
	bool good = connect(fd, &a.any, sizeof a.path) == 0 && dup2(fd, WORLD_JOURNAL_FD) == WORLD_JOURNAL_FD &&
		    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &most, sizeof most) == 0;
	enum err e = good ? ERR_NONE : errno == ENOENT ? ERR_NOT_FOUND : net_err();
	world_close(w, fd);
	return e;
}

enum err world_listen_path(struct world *w, struct str path, unsigned mode, int *fd_out)
{
	union sock_addr a;
	TRY(path_addr(path, &a));
	int other;
	if (world_connect_path(w, path, &other) == ERR_NONE) { /* somebody serves there */
		world_close(w, other);
		return ERR_EXISTS;
	}
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return net_err();
	(void)unlink(a.path.sun_path);
	mode_t old = umask(0777);
	int r = bind(fd, &a.any, sizeof a.path);
	umask(old);
	if (r != 0 || chmod(a.path.sun_path, mode) != 0 || listen(fd, 64) != 0) {
		enum err e = net_err();
		world_close(w, fd);
		return e;
	}
	*fd_out = fd;
	return ERR_NONE;
}

enum err world_accept(struct world *w UNUSED, int listen_fd, int *fd_out, struct ip *peer_out)
{
	union sock_addr a;
	socklen_t n = sizeof a;
	memset(&a, 0, sizeof a);
	int fd = accept4(listen_fd, &a.any, &n, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return errno == ECONNABORTED ? ERR_BUSY : net_err();
	*peer_out = from_sock_addr(&a);
	*fd_out = fd;
	return ERR_NONE;
}

enum err world_connect(struct world *w, const struct ip *to, const struct ip *from_or_null, int *fd_out)
{
	union sock_addr a;
	int one = 1;
	int fd = socket(to->family == IP_V4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return net_err();
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	socklen_t n = from_or_null ? to_sock_addr(from_or_null, &a) : 0;
	enum err e = from_or_null && bind(fd, &a.any, n) != 0 ? net_err() : ERR_NONE;
	n = to_sock_addr(to, &a);
	if (e == ERR_NONE && connect(fd, &a.any, n) != 0 && errno != EINPROGRESS)
		e = net_err();
	if (e != ERR_NONE)
		world_close(w, fd);
	else
		*fd_out = fd;
	return e;
}

/* RFC 5452 §9.2: the port is as hard to guess as the id. The kernel's own choice covers fewer ports. */
static enum err bind_to_random_port(struct world *w, int fd, sa_family_t family)
{
	union sock_addr a;
	uint16_t random;
	for (unsigned i = 0; i < UDP_BIND_TRIES; i++) {
		world_random(w, &random, sizeof random);
		if (random < 1024)
			continue;
		memset(&a, 0, sizeof a);
		a.any.sa_family = family;
		if (family == AF_INET)
			a.v4.sin_port = htons(random);
		else
			a.v6.sin6_port = htons(random);
		if (bind(fd, &a.any, family == AF_INET ? sizeof a.v4 : sizeof a.v6) == 0)
			return ERR_NONE;
		if (errno != EADDRINUSE && errno != EACCES)
			return net_err();
	}
	return ERR_BUSY;
}

enum err world_udp_open(struct world *w, const struct ip *to, int *fd_out)
{
	union sock_addr a;
	sa_family_t family = to->family == IP_V4 ? AF_INET : AF_INET6;
	int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return net_err();
	enum err e = bind_to_random_port(w, fd, family);
	socklen_t n = to_sock_addr(to, &a);
	if (e == ERR_NONE && connect(fd, &a.any, n) != 0)
		e = net_err();
	if (e != ERR_NONE)
		world_close(w, fd);
	else
		*fd_out = fd;
	return e;
}

enum err world_connect_result(struct world *w UNUSED, int fd)
{
	int value = 0;
	socklen_t n = sizeof value;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &n) != 0)
		return net_err();
	errno = value;
	return value ? net_err() : ERR_NONE;
}

enum err world_local_addr(struct world *w UNUSED, int fd, struct ip *ip_out)
{
	union sock_addr a;
	socklen_t n = sizeof a;
	memset(&a, 0, sizeof a);
	if (getsockname(fd, &a.any, &n) != 0)
		return net_err();
	*ip_out = from_sock_addr(&a);
	return ERR_NONE;
}

static enum err receive(int fd, void *p, size_t n, int flags, size_t *n_out)
{
	ssize_t r = recv(fd, p, n, flags);
	if (r < 0)
		return net_err();
	if (r == 0)
		return ERR_EOF;
	*n_out = (size_t)r;
	return ERR_NONE;
}

enum err world_recv(struct world *w UNUSED, int fd, void *p, size_t n, size_t *n_out)
{
	return receive(fd, p, n, 0, n_out);
}

enum err world_peek(struct world *w UNUSED, int fd, void *p, size_t n, size_t *n_out)
{
	return receive(fd, p, n, MSG_PEEK, n_out);
}

static size_t to_iov(struct iovec *iov, const struct str *parts, size_t count)
{
	size_t k = 0;
	for (; k < count && k < SEND_PARTS; k++) {
		union {
			const char *from;
			void *to;
		} base = { .from = parts[k].p };
		iov[k] = (struct iovec){ base.to, parts[k].n };
	}
	return k;
}

static enum err send_parts(int fd, const struct str *parts, size_t count, int flags, size_t *n_out)
{
	ssize_t r;
	if (count == 1) { /* nearly all are; less for the kernel to copy */
		r = send(fd, parts[0].p, parts[0].n, MSG_NOSIGNAL | flags);
	} else {
		struct iovec iov[SEND_PARTS];
		struct msghdr m = { .msg_iov = iov, .msg_iovlen = to_iov(iov, parts, count) };
		r = sendmsg(fd, &m, MSG_NOSIGNAL | flags);
	}
	if (r < 0)
		return net_err();
	*n_out = (size_t)r;
	return ERR_NONE;
}

enum err world_send(struct world *w UNUSED, int fd, const struct str *parts, size_t count, size_t *n_out)
{
	return send_parts(fd, parts, count, 0, n_out);
}

enum err world_send_more(struct world *w UNUSED, int fd, const struct str *parts, size_t count, size_t *n_out)
{
	return send_parts(fd, parts, count, MSG_MORE, n_out);
}

void world_shutdown_send(struct world *w UNUSED, int fd)
{
	(void)shutdown(fd, SHUT_WR);
}

void world_set_abort_on_close(struct world *w UNUSED, int fd)
{
	struct linger l = { .l_onoff = 1 };
	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
}

/* ---- packets -------------------------------------------------------------------------------- */

union fd_control {
	char bytes[CMSG_SPACE(sizeof(int) * WORLD_PACKET_FDS)];
	struct cmsghdr align;
};

enum err world_packet_send(struct world *w UNUSED, int fd, const struct str *parts, size_t count, const int *fds,
			   size_t fd_count)
{
	struct iovec iov[SEND_PARTS];
	union fd_control control;
	ASSERT(count <= SEND_PARTS && fd_count <= WORLD_PACKET_FDS);
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = to_iov(iov, parts, count) };
	if (fd_count > 0) {
		memset(&control, 0, sizeof control);
		m.msg_control = control.bytes;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * fd_count);
	}
	return sendmsg(fd, &m, MSG_NOSIGNAL) >= 0 ? ERR_NONE : net_err();
}

static size_t take_fds(struct msghdr *m, int *fds_out)
{
	size_t n = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t k = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < k; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
			if (n < WORLD_PACKET_FDS)
				fds_out[n++] = fd;
			else
				close(fd);
		}
	}
	return n;
}

enum err world_packet_recv(struct world *w UNUSED, int fd, void *p, size_t cap, size_t *n_out, int *fds_out,
			   size_t *fd_count_out)
{
	struct iovec iov = { p, cap };
	union fd_control control;
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes
	};
	ssize_t r = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
	if (r < 0)
		return net_err();
	*fd_count_out = take_fds(&m, fds_out);
	if (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
		for (size_t i = 0; i < *fd_count_out; i++)
			close(fds_out[i]);
		return ERR_LIMIT;
	}
	if (r == 0)
		return ERR_EOF; /* an empty packet is never sent */
	*n_out = (size_t)r;
	return ERR_NONE;
}

enum err world_peer_cred(struct world *w UNUSED, int fd, int *pid_out, unsigned *uid_out, unsigned *gid_out)
{
	struct ucred c;
	socklen_t n = sizeof c;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c, &n) != 0)
		return net_err();
	*pid_out = c.pid;
	*uid_out = c.uid;
	*gid_out = c.gid;
	return ERR_NONE;
}
