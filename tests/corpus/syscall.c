/* SPDX-License-Identifier: Apache-2.0 */
/* main > take > read, and on into the kernel: user registers are those of the system call. */
#include <fcntl.h>
#include <unistd.h>

#include "corpus.h"

static char room[1 << 20];

static noinline int take(int fd)
{
	for (int i = 0; i < 50; i++)
		if (read(fd, room, sizeof room) != sizeof room)
			return -1;
	return 0;
}

int main(int argc, char **argv)
{
	double seconds = corpus_seconds(argc, argv), begin = corpus_cpu();
	int fd = open("/dev/zero", O_RDONLY);

	do
		if (take(fd))
			return 1;
	while (corpus_cpu() - begin < seconds);
	return corpus_end(begin);
}
