/* SPDX-License-Identifier: Apache-2.0 */
/* What stands in a value for something kept elsewhere: ${env:NAME} and file:PATH. Used by config.c only. */
#ifndef SONDE_CONFIG_TEXT_H
#define SONDE_CONFIG_TEXT_H

#include "base/base.h"

#define CONFIG_TEXT_MAX 65536u /* bytes of one value, and of a file it is read from */

/* `text` with each ${env:NAME} and ${env:NAME:-default} replaced, and `$${` as a plain `${`, in fresh memory. Where
 * `files` is set and `text` begins with "file:", the content of that file instead, one newline at its end cut. What was
 * replaced is not looked at again, so neither the environment nor a file can name another. Errors are half a sentence
 * ("the environment variable X is not set") that never holds any of the value. */
int config_text_resolve(const char *text, bool files, char **ret, struct fault *fault);

#endif
