/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the recorded cases of C are made of: chain deep|signal|plt|expression|thread|sha512. Build: cc -O2 -fomit-frame-pointer -Wl,-z,lazy chain.c
 * -o chain -lpthread, or with musl-gcc -static.
 */
#include <alloca.h>
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define TRAP() __asm__ volatile("int3" ::: "memory")
#define APART  __attribute__((noinline, noclone))

APART static int deep(int depth)
{
	volatile char fixed[24];
	char *grown = depth % 3 ? alloca((size_t)(depth % 5) * 16 + 16) : (char *)fixed;

	memset(grown, depth, 8);
	fixed[0] = grown[1];
	if (!depth) {
		TRAP();
		return fixed[0];
	}
	return deep(depth - 1) + fixed[0];
}

static void on_signal(int number)
{
	TRAP();
}

APART static int interrupted(int depth)
{
	int r = depth ? interrupted(depth - 1) : raise(SIGUSR1);

	return r + 1;
}

APART static int plt(int depth)
{
	if (depth)
		return plt(depth - 1) + 1;
	TRAP();
	return getppid() + 1;
}

/* As OpenSSL's hand-written functions: the old stack pointer is kept on the new, aligned stack, and the CFA is *(rsp + 24) + 8. */
int expression(int (*f)(int));
__asm__(".text\n.type expression,@function\nexpression:\n.cfi_startproc\n"
	"mov %rsp, %rax\n.cfi_def_cfa_register %rax\npush %rbx\n.cfi_offset %rbx, -16\npush %rbp\n.cfi_offset %rbp, -24\n"
	"sub $40, %rsp\nand $-64, %rsp\nmov %rax, 24(%rsp)\n"
	".cfi_escape 0x0f, 0x05, 0x77, 24, 0x06, 0x23, 0x08\n"
	"mov %rdi, %rax\nmov $3, %edi\nxor %ebp, %ebp\nmov $-1, %rbx\ncall *%rax\n"
	"mov 24(%rsp), %rsi\n.cfi_def_cfa %rsi, 8\nmov -16(%rsi), %rbp\n.cfi_restore %rbp\nmov -8(%rsi), %rbx\n.cfi_restore %rbx\n"
	"lea (%rsi), %rsp\n.cfi_def_cfa_register %rsp\nret\n.cfi_endproc\n.size expression,.-expression\n");

static void *in_thread(void *argument)
{
	deep(5);
	return NULL;
}

/* OpenSSL's own hand-written code, some ten thousand instructions on: it keeps the stack pointer of its caller below its own. */
APART static int sha512(void)
{
	void *library = dlopen("libcrypto.so.3", RTLD_NOW);
	void *(*digest)(const void *, size_t, void *) = (void *(*)(const void *, size_t, void *))dlsym(library, "SHA512");
	static char text[1 << 16], out[64];

	digest(text, 1, out);
	TRAP();
	digest(text, sizeof text, out);
	return out[0] + 1;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "deep";
	pthread_t thread;

	if (!strcmp(what, "signal")) {
		signal(SIGUSR1, on_signal);
		return interrupted(5);
	}
	if (!strcmp(what, "plt"))
		return plt(3);
	if (!strcmp(what, "expression"))
		return expression(deep);
	if (!strcmp(what, "thread"))
		return pthread_create(&thread, NULL, in_thread, NULL) || pthread_join(thread, NULL);
	if (!strcmp(what, "sha512"))
		return sha512() + 1;
	return deep(argc > 2 ? 20 : 300);
}
