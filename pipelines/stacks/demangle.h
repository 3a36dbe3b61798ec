/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Readable names for functions: C++ (Itanium ABI), Rust (legacy and v0). All other names, Go's and C's among them, are
 * left as they are. Names are hostile: time, stack and output have a bound, and nothing is allocated.
 *
 * What is shown: the qualified name with its template arguments, without return type and without parameter list, as a
 * stack of names is read faster without them and overloads seldom matter in a profile. Compiler clones keep their suffix
 * (`draw.cold`, `draw.constprop.0`), as C functions do; the hash at the end of legacy Rust names, Rust's crate
 * disambiguators and `.llvm.123` are dropped. A name that is too long loses its inner template arguments first
 * (`map<...>::insert`) and only then its end, for which `...` stands. Names may hold spaces (`operator new`,
 * `unsigned long`), never control characters.
 *
 * C++ is done by libiberty's cplus_demangle_v3_callback(). Its licence lets it go into a program of any licence: "In
 * addition to the permissions in the GNU Library General Public License, the Free Software Foundation gives you
 * unlimited permission to link the compiled version of this file into combinations with other programs, and to
 * distribute those combinations without any restriction coming from the use of this file" (cp-demangle.c). libiberty's
 * Rust demangler is not used, as it allocates.
 */
#ifndef SONDE_DEMANGLE_H
#define SONDE_DEMANGLE_H

#include <stddef.h>

/* A mangled name longer than that is shown as it is. */
#define DEMANGLE_MOST 1023u

/* Writes the readable form of `name` into text[size] (size at least 4), which may not overlap it. Returns its length. */
size_t demangle(const char *name, char *text, size_t size);

#endif
