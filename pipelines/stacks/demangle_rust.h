/* SPDX-License-Identifier: Apache-2.0 */
/* Rust's names, legacy (`_ZN..17h<hash>E`) and v0 (`_R..`, RFC 2603). For demangle.c. */
#ifndef SONDE_DEMANGLE_RUST_H
#define SONDE_DEMANGLE_RUST_H

#include <stdbool.h>
#include <stddef.h>

/* Text that stops growing when it is full. */
struct demangled {
	char *text;
	size_t size, length;
	bool full;
};

void demangled_add(struct demangled *out, const char *text, size_t length);

/* Appends the readable form. False: the name is no such name, and what was appended is void. `ret_end` is what follows
 * the mangled part (a suffix of the compiler's). */
bool demangle_rust_legacy(const char *name, struct demangled *out, const char **ret_end);
bool demangle_rust_v0(const char *name, struct demangled *out, const char **ret_end);

#endif
