/* SPDX-License-Identifier: Apache-2.0 */
/* The jail of a lookup that asks a Dovecot: Unix sockets, and no other kind. In a child, which cannot leave it. */
#include <errno.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/test.h"
#include "world/world.h"

#ifndef GODWIT_ASAN
static int in_jail(unsigned may)
{
	struct world *w = world_linux_new();
	struct world_jail jail = { .role = "lookup", .may = WORLD_MAY_FILES | WORLD_MAY_DATABASE | WORLD_MAY_THREADS | may };
	if (world_jail_enter(w, &jail) != ERR_NONE)
		return 1;
	bool path = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) >= 0;
	static const int others[] = { AF_INET, AF_INET6, AF_NETLINK, AF_PACKET };
	for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
		if (socket(others[i], SOCK_STREAM, 0) >= 0 || errno != EPERM)
			return 2;
	return path == (may != 0) ? 0 : 3;
}
#endif

static void unix_sockets_alone(void **state UNUSED)
{
#ifndef GODWIT_ASAN /* its run-time needs more */
	static const unsigned may[] = { 0, WORLD_MAY_CONNECT_PATH };
	for (size_t i = 0; i < sizeof may / sizeof may[0]; i++) {
		int status = 0;
		pid_t child = fork();
		if (child == 0)
			_exit(in_jail(may[i]));
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_int_equal(status, 0);
	}
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(unix_sockets_alone) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
