/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The spaces themselves: the two tables they stand in, their begin and end, and the bound on all that is kept. spaces.c
 * says what the tables hold; only it and this part look inside.
 */
#ifndef SONDE_SPACE_ENTRIES_H
#define SONDE_SPACE_ENTRIES_H

#include "stacks/space_files.h"
#include "stacks/space_maps.h"
#include "stacks/spaces.h"
#include "stacks/table.h"

struct space_entry {
	struct node node; /* key: from the pid */
	struct space space;
	struct space_maps *maps;
	uint32_t seen;   /* state of `maps` that space.number names */
	bool answered;   /* nothing more will be known of its mappings */
	uint64_t kept;   /* ended: last time that anything showed it in use */
	uint32_t losses; /* living: that it has been held against; ended: until its end */
};

struct spaces {
	struct spaces_options options;
	struct table living, ended;
	struct space_files files;
	uint64_t maps_bytes, n_mappings, numbers, evicted;
	uint64_t lost_since, lost_until; /* the last loss */
	uint64_t last_read;              /* no list has a part from /proc that was read later */
	uint32_t losses, salt;
};

/* A list without mappings. NULL: no memory. */
struct space_maps *spaces_new_maps(struct spaces *spaces, bool known, int owner);

/* Begins a living space. Takes over one reference to `maps`; NULL: no memory, counted. */
struct space_entry *space_entry_add(struct spaces *spaces, int pid, uint64_t begin, struct space_maps *maps);
/* Begins one of a process that must have been there before anything was told of it. */
struct space_entry *space_entry_add_stranger(struct spaces *spaces, int pid);
void space_entry_free(struct spaces *spaces, struct table *table, struct space_entry *entry);
void space_entry_end(struct spaces *spaces, struct space_entry *entry, uint64_t time);
/* What /proc said is taken for nothing any more: it may have been of another program. */
void space_entry_take_back(struct spaces *spaces, struct space_entry *entry);
/* An end that was told too early is none. */
void space_entry_revive(struct spaces *spaces, struct space_entry *entry);
/* Nobody reads the list in /proc/PID of a process that left it. */
void space_entry_disown(struct space_entry *entry);

/* The spaces of a pid in one table, the youngest first. */
struct space_entry *space_entry_first(const struct spaces *spaces, const struct table *table, int pid);
struct space_entry *space_entry_next(const struct space_entry *entry);
/* The living one, held against the losses; the youngest that had begun at `time`. NULL: none. */
struct space_entry *space_entry_living(struct spaces *spaces, int pid);
struct space_entry *space_entry_at(struct spaces *spaces, int pid, uint64_t time);

uint64_t spaces_bytes(const struct spaces *spaces);
/* Forgets as much as the bound asks for. */
void spaces_keep_bound(struct spaces *spaces);

#endif
