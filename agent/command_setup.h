/* SPDX-License-Identifier: Apache-2.0 */
/* What the commands that need a configuration begin with. */
#ifndef SONDE_COMMAND_SETUP_H
#define SONDE_COMMAND_SETUP_H

#include "arguments.h"
#include "setup.h"

/* setup_make() for a command: notices and mistakes are said on stderr. -1: go on; else the exit code to return with. */
int command_setup(struct setup *ret, const char *file, const struct argument_texts *sets);

/* Every option there is, the modules' included: what --help shows behind the arguments. */
void command_write_options(FILE *out);

#endif
