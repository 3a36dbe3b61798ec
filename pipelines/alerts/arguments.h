/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ALERTS_ARGUMENTS_H
#define ALERTS_ARGUMENTS_H

#include <stddef.h>
#include <stdint.h>

/*
 * The name of argument `index` of a system call, in the order that evt.arg[N] counts in: what the call returned first, then what it was given, by the
 * names that rules have for them. NULL: the call has no row here, or not as many.
 */
const char *argument_name(const char *call, size_t length, int64_t index);

#endif
