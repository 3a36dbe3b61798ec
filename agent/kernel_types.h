/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's types as far as the modules name them, as BTF of its own. For each type that a program names, libbpf looks at every type of the kernel
 * that it is given (126 000 on Linux 6.18, 3 ms), once more for each module: of these few hundred it finds the same ones.
 *
 * Also for programs: an enum `sonde_type_id` whose enumerators SONDE_TYPE_RECORD are the kernel's own numbers of the records that modules name so
 * (sonde/probe.bpf.h). It is left out where the kernel has no use for them.
 */
#ifndef SONDE_KERNEL_TYPES_H
#define SONDE_KERNEL_TYPES_H

#include <bpf/btf.h>
#include <stdbool.h>
#include <stddef.h>

struct kernel_types;

/* All of the kernel's types, for libbpf too while they are not forgotten; NULL: there are none. */
struct btf *kernel_types_all(void);
struct btf *kernel_types_shared(void);
void kernel_types_forget(void);

int kernel_types_open(struct kernel_types **ret);
void kernel_types_close(struct kernel_types *types);

/* Adds what an object names: the roots of its relocations, and its sonde_type_id. Returns 1, or 0 if the object asks for numbers of types by itself
 * (bpf_core_type_id_kernel()), which only the whole of the types answers; -errno (-EBADMSG: not an object with BTF). */
int kernel_types_want(struct kernel_types *types, const void *object, size_t size, const struct btf *btf);

/* Also looked for: a function or the typedef of a tracepoint, for kernel_types_number(). `name` is copied. */
int kernel_types_want_name(struct kernel_types *types, const char *name);

/* Looks through the kernel's types once, and through those of its modules for what is not there. -ENOENT: the kernel has none. */
int kernel_types_make(struct kernel_types *types, const struct btf *kernel);

/* After that: the number of a function or typedef (0: there is none), and the path of the types, to be opened by this process. */
unsigned kernel_types_number(const struct kernel_types *types, const char *name, unsigned kind);
const char *kernel_types_path(const struct kernel_types *types);

#endif
