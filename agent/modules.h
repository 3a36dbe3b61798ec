/* SPDX-License-Identifier: Apache-2.0 */
/* The BPF objects carried inside the program, in one table made by probes/CMakeLists.txt. */
#ifndef SONDE_MODULES_H
#define SONDE_MODULES_H

struct builtin_object {
	const char *name;
	const unsigned char *begin, *end;
};

extern const struct builtin_object builtin_objects[]; /* ends with a NULL name */

#endif
