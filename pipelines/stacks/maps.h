/* SPDX-License-Identifier: Apache-2.0 */
/* The executable mappings of a process, and the files behind them, from /proc. May block: for the reader thread only.
 */
#ifndef SONDE_MAPS_H
#define SONDE_MAPS_H

#include <stdbool.h>
#include <stdint.h>

#define MAPS_MAX      4096u        /* executable mappings kept of one process; more are unknown addresses */
#define MAPS_TEXT_MAX (256u << 10) /* bytes of their paths together */
#define MAPS_PATH_MAX 4096u

struct mapping {
	uint64_t start, end, offset; /* addresses, and the file offset of `start` */
	uint64_t dev, ino;           /* of the file, as the kernel writes it; ino 0: no file */
	uint64_t file;               /* what the mapping was found to be: the owner's business; 0 at first */
	uint32_t path;               /* in maps.text; "" for anonymous memory */
};

struct maps {
	uint32_t count, text_size;
	struct mapping *mappings; /* by address */
	char *text;
};

/* One line of /proc/PID/maps without its newline. `ret_path` points into `line`. False when it is no executable
 * mapping. */
bool maps_parse_line(char *line, struct mapping *ret, const char **ret_path);

/* -ENOENT, -ESRCH: the process is gone; -EACCES, -ENOMEM. */
int maps_read(int pid, struct maps *ret);
void maps_free(struct maps *maps);

/* What tells one content of a file from another. */
struct file_identity {
	uint64_t dev, ino, size, modified_ns;
};

/* Opens the file behind a mapping for reading: by /proc/PID/map_files where permitted (right even when deleted), else
 * by its path within the process's root, never leaving it, else (the process has ended) by its path as the agent sees it; and only
 * when it is the same inode. With `ino` 0 that is not known, and the caller has to look at what is in there. -ENOENT, -ESTALE
 * (another file has its name), -EACCES. */
int maps_open_file(int pid, uint64_t start, uint64_t end, uint64_t dev, uint64_t ino, const char *path,
		   struct file_identity *ret);

/* Opens /tmp/perf-PID.map within the process's root, by its pid there, when it is the process's own user's or root's. -ENOENT, -EACCES,
 * -ESTALE: somebody else's. */
int maps_open_perf_map(int pid, struct file_identity *ret);

/* The name a frame shows: the path without its folder and without " (deleted)", control characters replaced. */
void maps_base_name(const char *path, char *name, unsigned size);

#endif
