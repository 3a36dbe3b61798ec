/* SPDX-License-Identifier: Apache-2.0 */
/* Bits by the names that rules call them by. */
#include "alerts/live_state.h"

#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "encode/plan.h"

struct bit {
	uint64_t bits;
	const char *name;
};

#define BIT(name)                                                                                                      \
	{                                                                                                              \
		name, #name                                                                                            \
	}

static const struct bit open_bits[] = { BIT(O_CREAT),    BIT(O_EXCL),    BIT(O_TRUNC), BIT(O_APPEND),
					BIT(O_NONBLOCK), BIT(O_DIRECT),  BIT(O_DSYNC), BIT(O_DIRECTORY),
					BIT(O_NOFOLLOW), BIT(O_CLOEXEC), BIT(O_PATH),  BIT(O_TMPFILE),
					BIT(O_NOATIME) };
static const struct bit clone_bits[] = { BIT(CLONE_NEWNS),  BIT(CLONE_NEWCGROUP), BIT(CLONE_NEWUTS),
					 BIT(CLONE_NEWIPC), BIT(CLONE_NEWUSER),   BIT(CLONE_NEWPID),
					 BIT(CLONE_NEWNET), BIT(CLONE_NEWTIME),   BIT(CLONE_VM),
					 BIT(CLONE_FS),     BIT(CLONE_FILES),     BIT(CLONE_SIGHAND),
					 BIT(CLONE_VFORK),  BIT(CLONE_PARENT),    BIT(CLONE_THREAD) };
static const struct bit mode_bits[] = { BIT(S_ISUID), BIT(S_ISGID), BIT(S_ISVTX), BIT(S_IRUSR),
					BIT(S_IWUSR), BIT(S_IXUSR), BIT(S_IRGRP), BIT(S_IWGRP),
					BIT(S_IXGRP), BIT(S_IROTH), BIT(S_IWOTH), BIT(S_IXOTH) };

static const struct bit memory_bits[] = { BIT(PROT_READ), BIT(PROT_WRITE), BIT(PROT_EXEC) };
static const struct bit map_bits[] = { BIT(MAP_SHARED),    BIT(MAP_PRIVATE),   BIT(MAP_FIXED),  BIT(MAP_ANONYMOUS),
				       BIT(MAP_GROWSDOWN), BIT(MAP_DENYWRITE), BIT(MAP_LOCKED), BIT(MAP_NORESERVE),
				       BIT(MAP_POPULATE),  BIT(MAP_NONBLOCK),  BIT(MAP_HUGETLB) };
static const struct bit mount_bits[] = {
	BIT(MS_RDONLY),   BIT(MS_NOSUID),   BIT(MS_NODEV),     BIT(MS_NOEXEC),     BIT(MS_SYNCHRONOUS), BIT(MS_REMOUNT),
	BIT(MS_MANDLOCK), BIT(MS_DIRSYNC),  BIT(MS_NOATIME),   BIT(MS_NODIRATIME), BIT(MS_BIND),        BIT(MS_MOVE),
	BIT(MS_REC),      BIT(MS_SILENT),   BIT(MS_POSIXACL),  BIT(MS_UNBINDABLE), BIT(MS_PRIVATE),     BIT(MS_SLAVE),
	BIT(MS_SHARED),   BIT(MS_RELATIME), BIT(MS_KERNMOUNT), BIT(MS_I_VERSION),  BIT(MS_STRICTATIME), BIT(MS_LAZYTIME)
};

/* One name more behind what there is; cut where there is no room. */
static void join(struct live *live, struct rule_value *v, const char *between, const char *name)
{
	size_t n;
	const char *parts[] = { v->length ? between : "", name };

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		char *at = texts_take(live, strlen(parts[i]), &n);

		memcpy(at, parts[i], n);
		v->length += (uint32_t)n;
	}
}

static void begin(struct live *live, struct rule_value *ret)
{
	give_text(ret, live->texts + live->used, 0);
}

static bool give_bits(struct live *live, uint64_t value, const struct bit *bits, size_t n, struct rule_value *ret)
{
	for (size_t i = 0; i < n; i++)
		if ((value & bits[i].bits) == bits[i].bits)
			join(live, ret, "|", bits[i].name);
	if (!ret->length)
		join(live, ret, "", "0");
	return true;
}

bool give_open_flags(struct live *live, uint64_t flags, struct rule_value *ret)
{
	static const char *const access[] = { "O_RDONLY", "O_WRONLY", "O_RDWR", "3" };

	begin(live, ret);
	join(live, ret, "", access[flags & O_ACCMODE]);
	return give_bits(live, flags, open_bits, ARRAY_SIZE(open_bits), ret);
}

bool give_bits_of(struct live *live, enum live_bits kind, uint64_t value, struct rule_value *ret)
{
	static const struct {
		const struct bit *bits;
		size_t n;
	} kinds[] = {
		[BITS_CLONE] = { clone_bits, ARRAY_SIZE(clone_bits) },
		[BITS_MODE] = { mode_bits, ARRAY_SIZE(mode_bits) },
		[BITS_MEMORY] = { memory_bits, ARRAY_SIZE(memory_bits) },
		[BITS_MAP] = { map_bits, ARRAY_SIZE(map_bits) },
		[BITS_MOUNT] = { mount_bits, ARRAY_SIZE(mount_bits) },
	};

	begin(live, ret);
	return give_bits(live, value, kinds[kind].bits, kinds[kind].n, ret);
}

bool give_capabilities(struct live *live, uint64_t set, struct rule_value *ret)
{
	begin(live, ret);
	for (unsigned i = 0; capability_name(i); i++)
		if (set >> i & 1)
			join(live, ret, " ", capability_name(i));
	return true;
}
