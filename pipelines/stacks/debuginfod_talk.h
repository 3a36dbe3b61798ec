/* SPDX-License-Identifier: Apache-2.0 */
/* What the agent and debuginfod's helper say to each other, over one sequenced-packet socket: first the helper says whether it can work,
 * then each question has one answer. See debuginfod.h. */
#ifndef SONDE_DEBUGINFOD_TALK_H
#define SONDE_DEBUGINFOD_TALK_H

#include <stdint.h>

#include "stacks/elf_table.h"

#define DEBUGINFOD_HELPER  "sonde-debuginfod" /* the name that it is executed by */
#define DEBUGINFOD_SOCKET  3                  /* the helper's only descriptor */
#define DEBUGINFOD_ID_MIN  8u                 /* bytes; a shorter one does not name a build */
#define DEBUGINFOD_PART    4u                 /* one file may have this part of the cache */
#define DEBUGINFOD_ENTRIES 4096u              /* of the cache */

/* The helper's arguments. */
enum { DEBUGINFOD_ARG_UID = 1, DEBUGINFOD_ARG_CACHE, DEBUGINFOD_ARG_BYTES, DEBUGINFOD_ARGS };

struct debuginfod_question {
	uint32_t length;
	uint8_t build_id[ELF_BUILD_ID_MAX];
};

struct debuginfod_answer {
	int32_t error;  /* 0: the file is attached; at the begin: it can work */
	char text[256]; /* at the begin: why it cannot */
};

/* debuginfod_cache.c: keeps the files of `cache` within `bytes` and DEBUGINFOD_ENTRIES, by removing those that were not used for the
 * longest time. 0 or a negative errno. */
int debuginfod_bound_cache(const char *cache, uint64_t bytes);

#endif
