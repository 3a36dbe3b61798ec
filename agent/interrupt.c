/* SPDX-License-Identifier: Apache-2.0 */
#include "interrupt.h"

#include <time.h>

void interrupt_block(sigset_t *ret_asked)
{
	sigemptyset(ret_asked);
	sigaddset(ret_asked, SIGINT);
	sigaddset(ret_asked, SIGTERM);
	sigaddset(ret_asked, SIGHUP);
	sigprocmask(SIG_BLOCK, ret_asked, NULL);
	signal(SIGPIPE, SIG_IGN);
}

bool interrupt_came(const sigset_t *asked)
{
	const struct timespec none = { 0 };

	return sigtimedwait(asked, NULL, &none) > 0;
}
