/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stands in for libFuzzer where the compiler has none: calls the fuzz target
 * once for each file named as argument; of a directory, for each file in it.
 * Exit 0 when all inputs were survived, 2 when an argument cannot be read.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));

static unsigned long replayed;

static int replay_file(const char *path, size_t size)
{
	FILE *f = fopen(path, "rb");
	if (!f) {
		perror(path);
		return 2;
	}
	/* exactly as long as the input, so that an overrun is seen */
	uint8_t *data = malloc(size ? size : 1);
	if (!data || fread(data, 1, size, f) != size) {
		fprintf(stderr, "%s: cannot be read\n", path);
		free(data);
		fclose(f);
		return 2;
	}
	fclose(f);
	LLVMFuzzerTestOneInput(data, size);
	free(data);
	replayed++;
	return 0;
}

static int replay_path(const char *path, int depth)
{
	struct stat st;
	if (stat(path, &st) != 0) {
		perror(path);
		return 2;
	}
	if (!S_ISDIR(st.st_mode))
		return replay_file(path, (size_t)st.st_size);
	if (depth > 8)
		return 2;
	DIR *dir = opendir(path);
	if (!dir) {
		perror(path);
		return 2;
	}
	int rc = 0;
	const struct dirent *entry;
	while ((entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		char *inner = NULL;
		if (asprintf(&inner, "%s/%s", path, entry->d_name) < 0)
			abort();
		int inner_rc = replay_path(inner, depth + 1);
		rc = inner_rc > rc ? inner_rc : rc;
		free(inner);
	}
	closedir(dir);
	return rc;
}

int main(int argc, char **argv)
{
	if (LLVMFuzzerInitialize)
		LLVMFuzzerInitialize(&argc, &argv);
	int rc = 0;
	for (int i = 1; i < argc; i++) {
		int path_rc = replay_path(argv[i], 0);
		rc = path_rc > rc ? path_rc : rc;
	}
	printf("%lu inputs replayed\n", replayed);
	return rc;
}
