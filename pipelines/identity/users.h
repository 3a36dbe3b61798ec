/* SPDX-License-Identifier: Apache-2.0 */
/* Names of users and groups, as the host's /etc/passwd and /etc/group have them. Read by ourselves, since the C library's way may ask the network. */
#ifndef SONDE_USERS_H
#define SONDE_USERS_H

#include "base/base.h"

#define USERS_FILE_MAX (4u << 20) /* bytes read of each file */
#define USERS_MAX      65536u     /* lines taken of each file */

struct users; /* opaque */

struct user {
	uint32_t id;
	const char *name, *home, *shell; /* of a group: the name alone */
};

/* The paths must outlive it. A file that is not there has no names in it. */
int users_open(struct users **ret, const char *passwd, const char *group);
void users_close(struct users *users);

/* Reads again what was changed since. What was found before is no longer valid. */
void users_refresh(struct users *users);

/* Whether a file could not be read, or not as a whole, and what is wrong with it. */
bool users_problem(const struct users *users, char *room, size_t size);

/* NULL: nobody has that number. */
const struct user *users_find(const struct users *users, uint32_t uid);
const struct user *users_find_group(const struct users *users, uint32_t gid);

#endif
