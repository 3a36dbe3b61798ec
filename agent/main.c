/* SPDX-License-Identifier: Apache-2.0 */
#include "command.h"
#include "stacks/debuginfod.h"

int main(int argc, char **argv)
{
	/* The agent executes its own program anew as the process that asks debuginfod. */
	if (debuginfod_is_helper(argc, argv))
		return debuginfod_helper(argv);
	return command_dispatch(argc, argv);
}
