/* SPDX-License-Identifier: Apache-2.0 */
/* Has all threads read, at the start and then once a second: see cred.bpf.c. */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>

#include "base/base.h"
#include "probes/cred/cred.h"
#include "probes/iterate.h"
#include "sonde/module.h"

extern const struct sonde_module sonde_module_cred;

struct cred {
	uint64_t interval, next; /* boot clock */
	int link;
	bool said; /* that the reading failed */
};

static const struct sonde_option options[] = {
	{ .type = SONDE_OPTION_DURATION,
	  .key = "interval",
	  .value = "1s",
	  .min = 100000000,
	  .max = 3600000000000,
	  .unit = "",
	  .live = 1,
	  .help = "how often the rights of all threads are held against those that they should have" },
	{ 0 },
};

static void cred_detach(struct sonde_host *host)
{
	struct cred *c = host->module_data;

	if (!c)
		return;
	close_fd(&c->link);
	free(c);
	host->module_data = NULL;
}

static int cred_attach(struct sonde_host *host)
{
	int program = host->program(host, "threads__iter"), r = program < 0 ? program : 0;
	struct cred *c = calloc(1, sizeof *c);

	if (!c)
		return -ENOMEM;
	host->module_data = c;
	c->link = -1;
	if (r == 0)
		c->link = bpf_link_create(program, 0, BPF_TRACE_ITER, NULL);
	if (r == 0 && c->link < 0)
		r = -errno;
	if (r == 0)
		r = iterate(c->link, 0, NULL, NULL);
	if (r < 0)
		cred_detach(host);
	return r;
}

static void cred_tick(struct sonde_host *host, uint64_t now)
{
	struct cred *c = host->module_data;

	if (now < c->next)
		return;
	c->next = now + host->number(host, "interval");
	if (iterate(c->link, 0, NULL, NULL) < 0 && !c->said) {
		c->said = true;
		host->notice(host, "the rights of all threads cannot be read: changes are found at system calls only");
	}
}

const struct sonde_module sonde_module_cred = {
	.abi = SONDE_MODULE_ABI,
	.signature = SONDE_MODULE_SIGNATURE,
	.name = "cred",
	.summary = "Rights of processes: cred.change",
	.options = options,
	.attach = cred_attach,
	.detach = cred_detach,
	.tick = cred_tick,
};
