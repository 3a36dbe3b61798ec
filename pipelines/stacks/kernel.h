/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's functions, from /proc/kallsyms: a sorted table of offsets and one pool of names. */
#ifndef SONDE_KERNEL_H
#define SONDE_KERNEL_H

#include <stddef.h>
#include <stdint.h>

struct kernel_table; /* opaque, immutable */

/* Reads a kallsyms file from its begin. The rights of whoever opened `fd` decide whether it shows addresses; when all
 * are zero the table is empty. -ENOMEM, -EIO. Takes tens of milliseconds: for the reader thread. */
int kernel_table_read(int fd, struct kernel_table **ret);
void kernel_table_free(struct kernel_table *table);

/* The function that holds `address`, or NULL. */
const char *kernel_table_find(const struct kernel_table *table, uint64_t address, uint64_t *ret_delta);

size_t kernel_table_bytes(const struct kernel_table *table);
size_t kernel_table_count(const struct kernel_table *table);

#endif
