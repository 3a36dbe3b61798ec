/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See kernel_types.h. A relocation goes from a root (a type found by its name) through members that lie in it, never through a pointer, and asks
 * of what it ends at its place, size and kind. So all types of a root's name are taken whole, with all that lies in them;
 * every pointer in them is the same one, to nothing. Where the root is a typedef, all that it is made of is compared, without what is in
 * records: there pointers lead on, and records are empty. Source: libbpf's relo_core.c.
 */
#include "kernel_types.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <linux/bpf.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/base.h"

#define NUMBERS      "sonde_type_id"
#define NUMBER       "SONDE_TYPE_"
#define NUMBERS_USER "bpf_rdonly_cast" /* what a program does with them, where the kernel has it */
#define POINTER      1                 /* the one of members */
#define SIDES_MOST   256               /* the kernel and its modules */
#define NAMES_MOST   (1 << 16)

enum state { LEFT_OUT, EMPTY, WHOLE };

struct name {
	char *text;
	size_t length;
	uint32_t roots, found; /* kinds of roots of this name, as bits; of them, those that the kernel itself has */
	bool record;
	uint32_t function, type, structure; /* the first of this name */
};

/* The kernel, or one of its modules, whose numbers go on behind the kernel's. */
struct side {
	struct btf *btf;
	bool owned;
	uint32_t first, end;
	uint8_t *states;
	uint32_t *numbers; /* in what is made */
};

struct kernel_types {
	struct name *names; /* a table with open addressing, a power of two */
	size_t n_slots, n_names;
	struct side sides[SIDES_MOST];
	size_t n_sides;
	struct {
		const struct side *side;
		uint32_t id;
	} * waiting; /* whose members are yet to be looked at */
	size_t n_waiting, room;
	bool no_memory;
	int fd;
	char path[32];
};

/* One for the process. */
static struct btf *all;

struct btf *kernel_types_shared(void)
{
	return all;
}

struct btf *kernel_types_all(void)
{
	if (!all)
		all = btf__load_vmlinux_btf();
	return all;
}

void kernel_types_forget(void)
{
	btf__free(all);
	all = NULL;
}

int kernel_types_open(struct kernel_types **ret)
{
	struct kernel_types *types = calloc(1, sizeof *types);

	if (!types)
		return -ENOMEM;
	types->fd = -1;
	*ret = types;
	return 0;
}

static void close_sides(struct kernel_types *types)
{
	for (size_t i = 0; i < types->n_sides; i++) {
		struct side *side = &types->sides[i];

		free(side->states);
		free(side->numbers);
		if (side->owned)
			btf__free(side->btf);
	}
	types->n_sides = 0;
	free(types->waiting);
	types->waiting = NULL;
	types->n_waiting = types->room = 0;
}

void kernel_types_close(struct kernel_types *types)
{
	if (!types)
		return;
	close_sides(types);
	for (size_t i = 0; i < types->n_slots; i++)
		free(types->names[i].text);
	free(types->names);
	close_fd(&types->fd);
	free(types);
}

/* ---- names ---- */

static struct name *slot_of(const struct kernel_types *types, const char *text, size_t length)
{
	for (size_t i = hash_bytes(text, length);; i++) {
		struct name *name = &types->names[i & (types->n_slots - 1)];

		if (!name->text || (name->length == length && !memcmp(name->text, text, length)))
			return name;
	}
}

static struct name *find_name(const struct kernel_types *types, const char *text, size_t length)
{
	struct name *name = types->n_slots ? slot_of(types, text, length) : NULL;

	return name && name->text ? name : NULL;
}

static int grow_names(struct kernel_types *types)
{
	struct kernel_types larger = { .n_slots = types->n_slots ? 2 * types->n_slots : 256 };

	if (larger.n_slots > NAMES_MOST)
		return -E2BIG;
	larger.names = calloc(larger.n_slots, sizeof *larger.names);
	if (!larger.names)
		return -ENOMEM;
	for (size_t i = 0; i < types->n_slots; i++)
		if (types->names[i].text)
			*slot_of(&larger, types->names[i].text, types->names[i].length) = types->names[i];
	free(types->names);
	types->names = larger.names;
	types->n_slots = larger.n_slots;
	return 0;
}

static int add_name(struct kernel_types *types, const char *text, size_t length, struct name **ret)
{
	struct name *name;
	int r = 2 * (types->n_names + 1) > types->n_slots ? grow_names(types) : 0;

	if (r < 0)
		return r;
	name = slot_of(types, text, length);
	if (!name->text) {
		name->text = strndup(text, length);
		if (!name->text)
			return -ENOMEM;
		name->length = length;
		types->n_names++;
	}
	*ret = name;
	return 0;
}

/* Without its flavour: what follows the last ___ that has neither one more underscore before it nor behind it. */
static size_t essential_length(const char *text)
{
	size_t n = strlen(text);

	for (size_t i = n >= 5 ? n - 4 : 0; i-- > 0;)
		if (text[i] != '_' && !memcmp(text + i + 1, "___", 3) && text[i + 4] != '_')
			return i + 1;
	return n;
}

/* Which kinds of types are candidates for a root of such a kind, as bits; 0: none. */
static uint32_t kinds_of(const struct btf_type *t)
{
	if (btf_is_any_enum(t))
		return 1u << BTF_KIND_ENUM | 1u << BTF_KIND_ENUM64;
	return btf_is_composite(t) || btf_is_typedef(t) || btf_is_int(t) || btf_is_float(t) || btf_is_fwd(t)
		       ? 1u << btf_kind(t)
		       : 0;
}

int kernel_types_want_name(struct kernel_types *types, const char *text)
{
	struct name *name;

	return add_name(types, text, strlen(text), &name);
}

/* ---- what an object wants ---- */

static int want_numbers(struct kernel_types *types, const struct btf *btf, const struct btf_type *t)
{
	for (int i = 0; i < btf_vlen(t); i++) {
		const char *text = btf__name_by_offset(btf, btf_enum(t)[i].name_off);
		struct name *name;
		int r;

		if (!text || strncmp(text, NUMBER, strlen(NUMBER)))
			continue;
		text += strlen(NUMBER);
		r = add_name(types, text, essential_length(text), &name);
		if (r < 0)
			return r;
		name->record = true;
	}
	return 0;
}

static int want_root(struct kernel_types *types, const struct btf *btf, uint32_t id)
{
	const struct btf_type *t = btf__type_by_id(btf, id);
	const char *text = t ? btf__name_by_offset(btf, t->name_off) : NULL;
	struct name *name;
	size_t length;
	int r;

	if (!text || !*text)
		return -EBADMSG;
	length = essential_length(text);
	if (length == strlen(NUMBERS) && !strncmp(text, NUMBERS, length) && btf_is_enum(t))
		return want_numbers(types, btf, t);
	r = add_name(types, text, length, &name);
	if (r == 0)
		name->roots |= kinds_of(t);
	return r;
}

/* All relocations: a header of the section, then for each section of programs a head and its records. */
static int want_relocations(struct kernel_types *types, const void *data, size_t size, const struct btf *btf)
{
	const struct {
		uint16_t magic;
		uint8_t version, flags;
		uint32_t header, function, function_length, line, line_length, relocation, relocation_length;
	} *h = data;
	const char *at = data;
	uint32_t record;
	size_t left;

	if (size < sizeof *h || h->magic != BTF_MAGIC || h->header > size || h->header < sizeof *h ||
	    h->relocation > size - h->header || h->relocation_length > size - h->header - h->relocation)
		return -EBADMSG;
	left = h->relocation_length;
	if (left < sizeof record)
		return 1;
	at += h->header + h->relocation;
	memcpy(&record, at, sizeof record);
	at += sizeof record;
	left -= sizeof record;
	if (record < sizeof(struct bpf_core_relo))
		return -EBADMSG;
	while (left >= 2 * sizeof(uint32_t)) {
		uint32_t n;

		memcpy(&n, at + sizeof n, sizeof n);
		at += 2 * sizeof n;
		left -= 2 * sizeof n;
		if (n > left / record)
			return -EBADMSG;
		for (; n; n--, at += record, left -= record) {
			struct bpf_core_relo relocation;
			int r;

			memcpy(&relocation, at, sizeof relocation);
			if (relocation.kind == BPF_CORE_TYPE_ID_TARGET)
				return 0;
			if (relocation.kind == BPF_CORE_TYPE_ID_LOCAL)
				continue;
			r = want_root(types, btf, relocation.type_id);
			if (r < 0)
				return r;
		}
	}
	return left ? -EBADMSG : 1;
}

/* 0: `ret` is the section's data, or NULL where there is none. */
static int find_section(Elf *elf, const char *wanted, const Elf_Data **ret)
{
	Elf_Scn *section = NULL;
	size_t names;

	*ret = NULL;
	if (elf_kind(elf) != ELF_K_ELF || elf_getshdrstrndx(elf, &names) < 0)
		return -EBADMSG;
	while ((section = elf_nextscn(elf, section))) {
		GElf_Shdr header;
		const char *name = gelf_getshdr(section, &header) ? elf_strptr(elf, names, header.sh_name) : NULL;

		if (!name || strcmp(name, wanted))
			continue;
		*ret = elf_rawdata(section, NULL);
		return *ret ? 0 : -EBADMSG;
	}
	return 0;
}

int kernel_types_want(struct kernel_types *types, const void *object, size_t size, const struct btf *btf)
{
	const Elf_Data *data;
	Elf *elf;
	int r;

	elf_version(EV_CURRENT);
	elf = elf_memory((char *)object, size);
	if (!elf)
		return -EBADMSG;
	r = find_section(elf, ".BTF.ext", &data);
	if (r == 0)
		r = data ? want_relocations(types, data->d_buf, data->d_size, btf) : 1;
	elf_end(elf);
	return r;
}

/* ---- what of it there is ---- */

static struct side *side_of(struct kernel_types *types, const struct side *side, uint32_t id)
{
	return &types->sides[id < types->sides[0].end ? 0 : side - types->sides];
}

static uint32_t *number_of(struct kernel_types *types, const struct side *side, uint32_t id)
{
	struct side *owner = side_of(types, side, id);

	return &owner->numbers[id - owner->first];
}

/* What a type is, whatever it is called; 0: nothing (void). */
static uint32_t strip(const struct side *side, uint32_t id)
{
	for (;;) {
		const struct btf_type *t = btf__type_by_id(side->btf, id);

		if (!t || !(btf_is_mod(t) || btf_is_typedef(t) || btf_is_type_tag(t)))
			return t ? id : 0;
		id = t->type;
	}
}

static void take(struct kernel_types *types, const struct side *side, uint32_t id, enum state state)
{
	struct side *owner = side_of(types, side, id);
	uint8_t *known = &owner->states[id - owner->first];

	if (!id || *known >= state)
		return;
	*known = (uint8_t)state;
	if (state != WHOLE)
		return;
	if (types->n_waiting == types->room) {
		size_t room = types->room ? 2 * types->room : 1024;
		void *more = realloc(types->waiting, room * sizeof *types->waiting);

		if (!more) {
			types->no_memory = true;
			return;
		}
		types->waiting = more;
		types->room = room;
	}
	types->waiting[types->n_waiting].side = side;
	types->waiting[types->n_waiting++].id = id;
}

/* What lies in something that is taken whole. */
static void take_inner(struct kernel_types *types, const struct side *side, uint32_t id)
{
	id = strip(side, id);
	if (!btf_is_ptr(btf__type_by_id(side->btf, id)))
		take(types, side, id, WHOLE);
}

/* What a typedef is made of. */
static void take_compared(struct kernel_types *types, const struct side *side, uint32_t id)
{
	id = strip(side, id);
	take(types, side, id, btf_is_composite(btf__type_by_id(side->btf, id)) ? EMPTY : WHOLE);
}

static void take_parts(struct kernel_types *types, const struct side *side, uint32_t id)
{
	const struct btf_type *t = btf__type_by_id(side->btf, id);

	switch (btf_kind(t)) {
	case BTF_KIND_STRUCT:
	case BTF_KIND_UNION:
		for (int i = 0; i < btf_vlen(t); i++)
			take_inner(types, side, btf_members(t)[i].type);
		break;
	case BTF_KIND_ARRAY:
		take_inner(types, side, btf_array(t)->type);
		take_inner(types, side, btf_array(t)->index_type);
		break;
	case BTF_KIND_TYPEDEF:
	case BTF_KIND_PTR:
		take_compared(types, side, t->type);
		break;
	case BTF_KIND_FUNC_PROTO:
		take_compared(types, side, t->type);
		for (int i = 0; i < btf_vlen(t); i++)
			take_compared(types, side, btf_params(t)[i].type);
		break;
	default:
		break;
	}
}

static void take_all_parts(struct kernel_types *types)
{
	while (types->n_waiting) {
		size_t last = --types->n_waiting;

		take_parts(types, types->waiting[last].side, types->waiting[last].id);
	}
}

static void note(struct name *name, const struct btf_type *t, uint32_t id)
{
	uint32_t *number = !name               ? NULL
			   : btf_is_func(t)    ? &name->function
			   : btf_is_typedef(t) ? &name->type
			   : btf_is_struct(t)  ? &name->structure
					       : NULL;

	if (number && !*number)
		*number = id;
}

/* `missing`: only roots of whose name and kind the kernel itself has none, as libbpf does. */
static bool look_through(struct kernel_types *types, const struct side *side, bool missing)
{
	bool any = false;

	for (uint32_t id = side->first; id < side->end; id++) {
		const struct btf_type *t = btf__type_by_id(side->btf, id);
		const char *text = t->name_off ? btf__name_by_offset(side->btf, t->name_off) : NULL;
		uint32_t kinds = kinds_of(t);
		struct name *name;
		size_t length;

		if (!text || !(kinds || btf_is_func(t)))
			continue;
		length = essential_length(text);
		name = find_name(types, text, length);
		if (!missing && text[length])
			note(find_name(types, text, strlen(text)), t, id);
		else if (!missing)
			note(name, t, id);
		if (!name || !(name->roots & kinds) || (missing && name->found & kinds))
			continue;
		if (!missing)
			name->found |= kinds;
		take(types, side, id, WHOLE);
		any = true;
	}
	return any;
}

static bool all_found(const struct kernel_types *types)
{
	for (size_t i = 0; i < types->n_slots; i++)
		if (types->names[i].roots & ~types->names[i].found)
			return false;
	return true;
}

static int add_side(struct kernel_types *types, struct btf *btf, bool owned, uint32_t first)
{
	struct side *side = &types->sides[types->n_sides];
	uint32_t n = btf__type_cnt(btf) - first;

	*side = (struct side){ .btf = btf, .owned = owned, .first = first, .end = first + n };
	side->states = calloc(n + 1, sizeof *side->states);
	side->numbers = calloc(n + 1, sizeof *side->numbers);
	types->n_sides++;
	return side->states && side->numbers ? 0 : -ENOMEM;
}

static void drop_side(struct kernel_types *types)
{
	struct side *side = &types->sides[--types->n_sides];

	free(side->states);
	free(side->numbers);
	btf__free(side->btf);
}

static int look_through_modules(struct kernel_types *types)
{
	DIR *folder = opendir("/sys/kernel/btf");
	int r = 0;

	if (!folder)
		return 0;
	for (const struct dirent *entry; r == 0 && types->n_sides < SIDES_MOST && (entry = readdir(folder));) {
		char path[300];
		struct btf *btf;

		if (entry->d_name[0] == '.' || !strcmp(entry->d_name, "vmlinux"))
			continue;
		snprintf(path, sizeof path, "/sys/kernel/btf/%s", entry->d_name);
		btf = btf__parse_split(path, types->sides[0].btf);
		if (!btf)
			continue; /* it is being unloaded, or made for another kernel */
		r = add_side(types, btf, true, types->sides[0].end);
		if (r == 0 && !look_through(types, &types->sides[types->n_sides - 1], true))
			drop_side(types);
	}
	closedir(folder);
	return r;
}

/* ---- what is made of it ---- */

static uint32_t inner_number(struct kernel_types *types, const struct side *side, uint32_t id)
{
	id = strip(side, id);
	return !id ? 0 : btf_is_ptr(btf__type_by_id(side->btf, id)) ? POINTER : *number_of(types, side, id);
}

static uint32_t compared_number(struct kernel_types *types, const struct side *side, uint32_t id)
{
	id = strip(side, id);
	return id ? *number_of(types, side, id) : 0;
}

static int make_record(struct kernel_types *types, const struct side *side, const struct btf_type *t, const char *name,
		       bool whole, struct btf *into)
{
	int id = btf_is_struct(t) ? btf__add_struct(into, name, t->size) : btf__add_union(into, name, t->size);

	for (int i = 0; id > 0 && whole && i < btf_vlen(t); i++) {
		const struct btf_member *m = &btf_members(t)[i];
		int r = btf__add_field(into, btf__name_by_offset(side->btf, m->name_off),
				       (int)inner_number(types, side, m->type), btf_member_bit_offset(t, (uint32_t)i),
				       btf_member_bitfield_size(t, (uint32_t)i));

		if (r < 0)
			return r;
	}
	return id;
}

static int make_enum(const struct side *side, const struct btf_type *t, const char *name, struct btf *into)
{
	bool wide = btf_is_enum64(t);
	int id = wide ? btf__add_enum64(into, name, t->size, btf_kflag(t)) : btf__add_enum(into, name, t->size), r = 0;

	for (int i = 0; id > 0 && r == 0 && i < btf_vlen(t); i++)
		r = wide ? btf__add_enum64_value(into, btf__name_by_offset(side->btf, btf_enum64(t)[i].name_off),
						 btf_enum64_value(&btf_enum64(t)[i]))
			 : btf__add_enum_value(into, btf__name_by_offset(side->btf, btf_enum(t)[i].name_off),
					       btf_kflag(t) ? (int64_t)btf_enum(t)[i].val
							    : (int64_t)(uint32_t)btf_enum(t)[i].val);
	return r < 0 ? r : id;
}

static int make_prototype(struct kernel_types *types, const struct side *side, const struct btf_type *t,
			  struct btf *into)
{
	int id = btf__add_func_proto(into, (int)compared_number(types, side, t->type)), r = 0;

	for (int i = 0; id > 0 && r == 0 && i < btf_vlen(t); i++)
		r = btf__add_func_param(into, btf__name_by_offset(side->btf, btf_params(t)[i].name_off),
					(int)compared_number(types, side, btf_params(t)[i].type));
	return r < 0 ? r : id;
}

/* Returns its number in `into`. */
static int make_type(struct kernel_types *types, const struct side *side, uint32_t id, struct btf *into)
{
	const struct btf_type *t = btf__type_by_id(side->btf, id);
	const char *name = t->name_off ? btf__name_by_offset(side->btf, t->name_off) : NULL;

	switch (btf_kind(t)) {
	case BTF_KIND_INT:
		return btf__add_int(into, name, t->size, btf_int_encoding(t));
	case BTF_KIND_FLOAT:
		return btf__add_float(into, name, t->size);
	case BTF_KIND_STRUCT:
	case BTF_KIND_UNION:
		return make_record(types, side, t, name, side->states[id - side->first] == WHOLE, into);
	case BTF_KIND_ENUM:
	case BTF_KIND_ENUM64:
		return make_enum(side, t, name, into);
	case BTF_KIND_ARRAY:
		return btf__add_array(into, (int)inner_number(types, side, btf_array(t)->index_type),
				      (int)inner_number(types, side, btf_array(t)->type), btf_array(t)->nelems);
	case BTF_KIND_TYPEDEF:
		return btf__add_typedef(into, name, (int)compared_number(types, side, t->type));
	case BTF_KIND_PTR:
		return btf__add_ptr(into, (int)compared_number(types, side, t->type));
	case BTF_KIND_FUNC_PROTO:
		return make_prototype(types, side, t, into);
	case BTF_KIND_FWD:
		return btf__add_fwd(into, name, btf_kflag(t) ? BTF_FWD_UNION : BTF_FWD_STRUCT);
	default:
		return -EBADMSG;
	}
}

static void number_all(struct kernel_types *types)
{
	uint32_t next = POINTER;

	for (size_t s = 0; s < types->n_sides; s++) {
		struct side *side = &types->sides[s];

		for (uint32_t i = 0; i < side->end - side->first; i++)
			if (side->states[i])
				side->numbers[i] = ++next;
	}
}

static int make_numbers(const struct kernel_types *types, struct btf *into)
{
	int r = 0;

	if (!kernel_types_number(types, NUMBERS_USER, BTF_KIND_FUNC))
		return 0;
	for (size_t i = 0; r >= 0 && i < types->n_slots; i++) {
		const struct name *name = &types->names[i];
		char text[128];

		if (!name->record || !name->structure || name->length > sizeof text - sizeof NUMBER)
			continue;
		if (r == 0)
			r = btf__add_enum(into, NUMBERS, sizeof(uint32_t));
		if (r < 0)
			return r;
		snprintf(text, sizeof text, NUMBER "%s", name->text);
		r = btf__add_enum_value(into, text, name->structure) ?: 1;
	}
	return r < 0 ? r : 0;
}

static int make_types(struct kernel_types *types, struct btf *into)
{
	int r = btf__add_ptr(into, 0);

	if (r != POINTER)
		return r < 0 ? r : -EIO;
	number_all(types);
	for (size_t s = 0; s < types->n_sides; s++) {
		const struct side *side = &types->sides[s];

		for (uint32_t i = 0; i < side->end - side->first; i++) {
			if (!side->states[i])
				continue;
			r = make_type(types, side, side->first + i, into);
			if (r != (int)side->numbers[i])
				return r < 0 ? r : -EIO;
		}
	}
	return make_numbers(types, into);
}

static int write_types(struct kernel_types *types, const struct btf *made)
{
	uint32_t size;
	const char *data = btf__raw_data(made, &size);

	if (!data)
		return -ENOMEM;
	types->fd = memfd_create("sonde-types", MFD_CLOEXEC);
	if (types->fd < 0)
		return -errno;
	for (uint32_t at = 0; at < size;) {
		ssize_t n = write(types->fd, data + at, size - at);

		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		at += (uint32_t)n;
	}
	snprintf(types->path, sizeof types->path, "/proc/self/fd/%d", types->fd);
	return 0;
}

static int make(struct kernel_types *types, const struct btf *kernel)
{
	struct btf *made;
	int r = kernel_types_want_name(types, NUMBERS_USER);

	if (r == 0)
		r = add_side(types, (struct btf *)kernel, false, 1);
	if (r < 0)
		return r;
	look_through(types, &types->sides[0], false);
	if (!all_found(types))
		r = look_through_modules(types);
	if (r < 0)
		return r;
	take_all_parts(types);
	if (types->no_memory)
		return -ENOMEM;
	made = btf__new_empty();
	if (!made)
		return -errno;
	btf__set_pointer_size(made, sizeof(uint64_t));
	r = make_types(types, made);
	if (r == 0)
		r = write_types(types, made);
	btf__free(made);
	return r;
}

int kernel_types_make(struct kernel_types *types, const struct btf *kernel)
{
	int r = kernel ? make(types, kernel) : -ENOENT;

	close_sides(types);
	if (r < 0) {
		close_fd(&types->fd);
		types->fd = -1;
		types->path[0] = 0;
	}
	return r;
}

unsigned kernel_types_number(const struct kernel_types *types, const char *text, unsigned kind)
{
	const struct name *name = find_name(types, text, strlen(text));

	return !name ? 0 : kind == BTF_KIND_FUNC ? name->function : kind == BTF_KIND_TYPEDEF ? name->type : 0;
}

const char *kernel_types_path(const struct kernel_types *types)
{
	return types->path;
}
