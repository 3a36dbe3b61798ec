/* SPDX-License-Identifier: Apache-2.0 */
/* What is to be done when a rule fires: rules.responses, read. */
#ifndef SONDE_RESPONSES_H
#define SONDE_RESPONSES_H

#include "config.h"
#include "rules/rules.h"

#define RESPONSE_BIT(action) (1u << (action)) /* of enum response_action_kind */

struct responses; /* opaque */

/* Every action that any rule asks for, as bits; what cannot be read counts for nothing. */
unsigned responses_wanted(const struct config *config);

/* The capabilities that the agent keeps while it runs, as bits: what any agent needs, and what those actions do. */
uint64_t responses_capabilities(const struct config *config);

/* Whether any rule asks for the action of this name. */
bool responses_want(const struct config *config, const char *name);

/* -EINVAL: an unknown rule or action, with the nearest name, or a rule that is not matched. Without responses `ret` is NULL. `rules` may be NULL:
 * there are none. */
int responses_read(struct responses **ret, const struct config *config, const struct rules *rules, struct fault *fault);
void responses_free(struct responses *responses);

/* The actions of a rule, as bits; `responses` may be NULL. */
unsigned responses_of(const struct responses *responses, uint32_t rule);

/* At which moments the kernel side takes a rule's kill and deny, as bits by enum predicate_moment: none until it was said so. */
void responses_set_in_kernel(struct responses *responses, uint32_t rule, unsigned moment);
unsigned responses_in_kernel(const struct responses *responses, uint32_t rule);

const char *response_name(unsigned action);

#endif
