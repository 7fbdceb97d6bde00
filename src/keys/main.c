/* SPDX-License-Identifier: Apache-2.0 */
/* The program libexec/godwit/keys: started by master only. */
#include <stdlib.h>

#include "keys/keys.h"

int main(int argc, char **argv)
{
	struct world *w = world_linux_new();
	if (!w)
		return 71;
	int status = proc_main(w, &keys_ops, argc > 1 ? (unsigned)atoi(argv[1]) : 0);
	world_linux_free(w);
	return status;
}
