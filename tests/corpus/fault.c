/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main > outer > touch | signal | on_fault > burn: SIGSEGV at the very first instruction of touch(). That address is exact: who takes it for
 * a return address looks one byte before it, and finds another function.
 */
#include <signal.h>
#include <sys/mman.h>

#include "corpus.h"

static unsigned char *page;

static noinline void burn(unsigned long rounds)
{
	corpus_work(rounds);
}

static noinline void on_fault(int number)
{
	burn(CORPUS_ROUNDS);
	mprotect(page, 4096, PROT_READ | PROT_WRITE);
}

/* Written out, so that its first instruction is the one that faults. */
int touch(const unsigned char *at);
__asm__(".text\n.type touch, @function\ntouch:\n.cfi_startproc\nmovzbl (%rdi), %eax\nret\n.cfi_endproc\n.size touch, . "
	"- touch\n");

static noinline int outer(void)
{
	return touch(page) + 1;
}

int main(int argc, char **argv)
{
	double seconds = corpus_seconds(argc, argv), begin = corpus_cpu();
	struct sigaction action = { .sa_handler = on_fault };

	page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	sigaction(SIGSEGV, &action, NULL);
	do {
		mprotect(page, 4096, PROT_NONE);
		corpus_sink += (unsigned long)outer();
	} while (corpus_cpu() - begin < seconds);
	return corpus_end(begin);
}
