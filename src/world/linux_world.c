/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Linux world: clock, random, epoll, helper threads, signals, stacks. Runs in every process; none
 * of its input is hostile. Descriptors' numbers are the kernel's.
 *
 * Helper threads are started when first needed, touch no struct mem, and block all signals.
 */
#include "world/linux_internal.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 /* Linux 6.13 */
#endif

#define GUARD_BYTES ((size_t)16384)
#define POLL_MAX 256

/* Marks in epoll's data; real data are pointers to sources. */
static const char jobs_mark, signals_mark;

struct world *world_linux_new(void)
{
#ifdef GODWIT_ASAN
	struct mem *mem = mem_new(0); /* leaks are the simulation's to find; here children are killed */
#else
	struct mem *mem = mem_new_unlisted(0);
#endif
	struct world *w = mem ? mem_alloc(mem, sizeof *w) : NULL;
	if (!w)
		return NULL;
	w->mem = mem;
	w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	w->job_event_fd = -1;
	w->signal_fd = -1;
	w->todo_tail = &w->todo;
	w->done_tail = &w->done;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->work, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* a write beyond RLIMIT_FSIZE is an error, not an end */
	if (w->epoll_fd < 0)
		return NULL;
	world_clock_refresh(w);
	return w;
}

static void threads_end(struct world *w)
{
	pthread_mutex_lock(&w->lock);
	w->quit = true;
	pthread_cond_broadcast(&w->work);
	pthread_mutex_unlock(&w->lock);
	for (unsigned i = 0; i < w->threads; i++)
		pthread_join(w->thread[i], NULL);
}

void world_linux_free(struct world *w)
{
	threads_end(w);
	if (w->job_event_fd >= 0)
		close(w->job_event_fd);
	if (w->signal_fd >= 0)
		close(w->signal_fd);
	close(w->epoll_fd);
	pthread_mutex_destroy(&w->lock);
	pthread_cond_destroy(&w->work);
	struct mem *mem = w->mem;
	mem_free(mem, w);
	mem_destroy(mem);
}

struct mem *world_mem(struct world *w)
{
	return w->mem;
}

int64_t world_mono_ns(struct world *w)
{
	return w->mono_ns;
}

int64_t world_wall_ms(struct world *w)
{
	return w->wall_ms;
}

void world_clock_refresh(struct world *w)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	w->mono_ns = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
	clock_gettime(CLOCK_REALTIME, &t);
	w->wall_ms = (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int64_t world_measure_ns(struct world *w UNUSED)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void world_random(struct world *w, void *p, size_t n)
{
	unsigned char *to = p;
	while (n > 0) {
		if (w->random_left == 0) {
			ssize_t got = getrandom(w->random, sizeof w->random, 0);
			ASSERT(got == (ssize_t)sizeof w->random || errno == EINTR);
			if (got < 0)
				continue;
			w->random_left = sizeof w->random;
		}
		size_t k = n < w->random_left ? n : w->random_left;
		unsigned char *from = w->random + sizeof w->random - w->random_left;
		memcpy(to, from, k);
		memset(from, 0, k);
		w->random_left -= k;
		to += k;
		n -= k;
	}
}

int world_pid(struct world *w UNUSED)
{
	return getpid();
}

unsigned world_uid(struct world *w UNUSED)
{
	return geteuid();
}

unsigned world_cpus(struct world *w UNUSED)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);
	return n > 0 ? (unsigned)n : 1;
}

struct str world_env(struct world *w UNUSED, struct str name)
{
	char z[128];
	if (name.n >= sizeof z)
		return STR_NONE;
	memcpy(z, name.p, name.n);
	z[name.n] = '\0';
	return str_z(secure_getenv(z));
}

/* ---- waiting ---------------------------------------------------------------------------------- */

static enum err epoll_add(struct world *w, int fd, uint32_t events, const void *data)
{
	union {
		const void *in;
		void *out;
	} d = { .in = data };
	struct epoll_event ev = { .events = events, .data.ptr = d.out };
	return epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, fd, &ev) == 0 ? ERR_NONE : errno_err();
}

enum err world_watch(struct world *w, int fd, void *data)
{
	return epoll_add(w, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, data);
}

enum err world_watch_packets(struct world *w, int fd, void *data)
{
	return epoll_add(w, fd, EPOLLIN | EPOLLRDHUP | EPOLLET, data);
}

enum err world_watch_output(struct world *w, int fd, void *data, bool output)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.ptr = data };
	ev.events |= output ? EPOLLOUT : 0;
	return epoll_ctl(w->epoll_fd, EPOLL_CTL_MOD, fd, &ev) == 0 ? ERR_NONE : errno_err();
}

enum err world_watch_listener(struct world *w, int fd, void *data)
{
	return epoll_add(w, fd, EPOLLIN | EPOLLEXCLUSIVE, data);
}

enum err world_watch_level(struct world *w, int fd, unsigned what, void *data)
{
	struct epoll_event ev = { .data.ptr = data };
	ev.events = (what & WORLD_IN ? EPOLLIN | EPOLLRDHUP : 0) | (what & WORLD_OUT ? EPOLLOUT : 0);
	if (epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, fd, &ev) == 0)
		return ERR_NONE;
	if (errno == EEXIST && epoll_ctl(w->epoll_fd, EPOLL_CTL_MOD, fd, &ev) == 0)
		return ERR_NONE;
	return errno_err();
}

void world_unwatch(struct world *w, int fd)
{
	(void)epoll_ctl(w->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

/* Hands finished jobs out as events. */
static size_t take_done_jobs(struct world *w, struct world_event *ev, size_t max)
{
	uint64_t count;
	size_t n = 0;
	if (read(w->job_event_fd, &count, sizeof count) < 0 && errno != EAGAIN)
		ASSERT(!"eventfd");
	pthread_mutex_lock(&w->lock);
	while (w->done && n < max) {
		struct world_job *job = w->done;
		w->done = job->next_;
		if (!w->done)
			w->done_tail = &w->done;
		w->jobs_open--;
		ev[n++] = (struct world_event){ job->data, WORLD_JOB };
	}
	if (w->done) { /* more than fit: come again */
		uint64_t one = 1;
		ASSERT(write(w->job_event_fd, &one, sizeof one) == (ssize_t)sizeof one);
	}
	pthread_mutex_unlock(&w->lock);
	return n;
}

static unsigned ready_bits(uint32_t events)
{
	unsigned r = 0;
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		r |= WORLD_IN;
	if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
		r |= WORLD_OUT;
	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		r |= WORLD_END;
	return r;
}

static int wait_events(struct world *w, struct epoll_event *ev, int max, int64_t deadline_ns)
{
	struct timespec ts = { 0 }, *timeout = NULL;
	if (deadline_ns != INT64_MAX) {
		int64_t left = 0;
		if (deadline_ns > 0) {
			world_clock_refresh(w);
			left = deadline_ns > w->mono_ns ? deadline_ns - w->mono_ns : 0;
		}
		ts = (struct timespec){ .tv_sec = left / 1000000000, .tv_nsec = left % 1000000000 };
		timeout = &ts;
	}
	int r = w->no_pwait2 ? -1 : epoll_pwait2(w->epoll_fd, ev, max, timeout, NULL);
	if (w->no_pwait2 || (r < 0 && errno == ENOSYS)) { /* Linux before 5.11; valgrind */
		int64_t ms = timeout ? ((int64_t)ts.tv_sec * 1000 + (ts.tv_nsec + 999999) / 1000000) : -1;
		w->no_pwait2 = true;
		r = epoll_wait(w->epoll_fd, ev, max, ms > 3600000 ? 3600000 : (int)ms);
	}
	return r;
}

size_t world_poll(struct world *w, struct world_event *ev, size_t max, int64_t deadline_ns)
{
	struct epoll_event raw[POLL_MAX];
	size_t n = 0;
	ASSERT(max >= 2);
	/* Half of the room is kept for finished jobs, which come as one descriptor. */
	int most = max / 2 < POLL_MAX ? (int)(max / 2) : POLL_MAX;
	int got = wait_events(w, raw, most, deadline_ns);
	world_clock_refresh(w);
	for (int i = 0; i < got; i++) {
		if (raw[i].data.ptr == &jobs_mark)
			n += take_done_jobs(w, ev + n, max - n - (size_t)(got - i - 1));
		else if (raw[i].data.ptr == &signals_mark)
			ev[n++] = (struct world_event){ w->signal_data, WORLD_SIGNAL };
		else
			ev[n++] = (struct world_event){ raw[i].data.ptr, ready_bits(raw[i].events) };
	}
	return n;
}

/* ---- helper threads ---------------------------------------------------------------------------- */

static void *job_thread(void *arg)
{
	struct world *w = arg;
	pthread_mutex_lock(&w->lock);
	for (;;) {
		while (!w->todo && !w->quit) {
			w->idle_threads++;
			pthread_cond_wait(&w->work, &w->lock);
			w->idle_threads--;
		}
		if (!w->todo)
			break;
		struct world_job *job = w->todo;
		w->todo = job->next_;
		if (!w->todo)
			w->todo_tail = &w->todo;
		pthread_mutex_unlock(&w->lock);
		job->fn(w, job->arg);
		pthread_mutex_lock(&w->lock);
		bool first = !w->done;
		job->next_ = NULL;
		*w->done_tail = job;
		w->done_tail = &job->next_;
		uint64_t one = 1;
		if (first)
			ASSERT(write(w->job_event_fd, &one, sizeof one) == (ssize_t)sizeof one);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

static enum err job_thread_start(struct world *w)
{
	if (w->job_event_fd < 0) {
		w->job_event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (w->job_event_fd < 0)
			return ERR_LIMIT;
		TRY(epoll_add(w, w->job_event_fd, EPOLLIN | EPOLLET, &jobs_mark));
	}
	sigset_t all, old;
	pthread_attr_t attr;
	sigfillset(&all);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, (size_t)256 * 1024);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int r = pthread_create(&w->thread[w->threads], &attr, job_thread, w);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (r != 0)
		return w->threads > 0 ? ERR_NONE : ERR_LIMIT;
	w->threads++;
	return ERR_NONE;
}

enum err world_offload(struct world *w, struct world_job *job)
{
	if (w->jobs_open >= w->threads && w->threads < JOB_THREADS_MAX)
		TRY(job_thread_start(w));
	job->next_ = NULL;
	pthread_mutex_lock(&w->lock);
	*w->todo_tail = job;
	w->todo_tail = &job->next_;
	w->jobs_open++;
	pthread_cond_signal(&w->work);
	pthread_mutex_unlock(&w->lock);
	return ERR_NONE;
}

/* ---- signals ------------------------------------------------------------------------------------ */

enum err world_watch_signals(struct world *w, void *data)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGCHLD);
	if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
		return errno_err();
	w->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (w->signal_fd < 0)
		return errno_err();
	w->signal_data = data;
	return epoll_add(w, w->signal_fd, EPOLLIN | EPOLLET, &signals_mark);
}

enum world_signal world_next_signal(struct world *w)
{
	struct signalfd_siginfo si;
	while (read(w->signal_fd, &si, sizeof si) == (ssize_t)sizeof si) {
		w->stop_pending |= si.ssi_signo == SIGTERM || si.ssi_signo == SIGINT;
		w->reload_pending |= si.ssi_signo == SIGHUP;
		w->child_pending |= si.ssi_signo == SIGCHLD;
	}
	int *flags[] = { &w->stop_pending, &w->child_pending, &w->reload_pending };
	static const enum world_signal which[] = { WORLD_SIG_STOP, WORLD_SIG_CHILD, WORLD_SIG_RELOAD };
	for (size_t i = 0; i < 3; i++)
		if (*flags[i]) {
			*flags[i] = 0;
			return which[i];
		}
	return WORLD_SIG_NONE;
}

/* ---- stacks ---------------------------------------------------------------------------------------- */

enum err world_stack_new(struct world *w, size_t bytes, void **lo_out)
{
	char *p = mmap(NULL, bytes + GUARD_BYTES, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
	if (p == MAP_FAILED)
		return ERR_NO_MEMORY;
	/* Huge pages would make each stack cost 2 MiB where mappings are merged. */
	(void)madvise(p, bytes + GUARD_BYTES, MADV_NOHUGEPAGE);
	if (!w->no_guard_install && madvise(p, GUARD_BYTES, MADV_GUARD_INSTALL) != 0)
		w->no_guard_install = true;
	if (w->no_guard_install && mprotect(p, GUARD_BYTES, PROT_NONE) != 0) {
		munmap(p, bytes + GUARD_BYTES); /* vm.max_map_count is used up */
		return ERR_LIMIT;
	}
	*lo_out = p + GUARD_BYTES;
	return ERR_NONE;
}

void world_stack_free(struct world *w UNUSED, void *lo, size_t bytes)
{
	munmap((char *)lo - GUARD_BYTES, bytes + GUARD_BYTES);
}

void world_stack_release(struct world *w UNUSED, void *lo, size_t bytes)
{
	(void)madvise(lo, bytes, MADV_DONTNEED);
}
