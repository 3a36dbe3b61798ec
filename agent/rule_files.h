/* SPDX-License-Identifier: Apache-2.0 */
/* Rule files from disk to rules, for `sonde run` and `sonde rules`. */
#ifndef SONDE_RULE_FILES_H
#define SONDE_RULE_FILES_H

#include "config.h"
#include "rules/rules.h"

#define RULE_FILE_BYTES (8u << 20) /* of one file, at most */
#define RULE_FILES_MAX  64u

/* Reads and compiles; each mistake and warning goes to `report`. -EINVAL with the first mistake, or another errno with a file that cannot be read, in
 * `fault`. */
int rule_files_load(struct rules **ret, const char *const *paths, size_t n, bool lenient,
		    void (*report)(void *context, enum rules_level level, const char *sentence), void *context,
		    struct fault *fault);

/* Calls `say` for each rule that cannot fire: no module that the setup enables makes events for it, or it needs a field that nothing gives. */
struct setup;
void rule_files_unserved(const struct rules *rules, const struct setup *setup,
			 void (*say)(void *context, const char *sentence), void *context);

#endif
