/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Memory that becomes code though it was, or can be, written; and what goes with that. */
#ifndef SONDE_MEMORY_H
#define SONDE_MEMORY_H

#include "sonde/event.h"
#include "sonde/security.h"

/* In the order of the names of `kind` and `call` below. */
enum memory_kind { MEMORY_KIND_UNKNOWN, MEMORY_KIND_ANONYMOUS, MEMORY_KIND_FILE, MEMORY_KIND_NAMELESS, MEMORY_KINDS };
enum memory_call { MEMORY_CALL_MMAP, MEMORY_CALL_MPROTECT, MEMORY_CALL_PKEY_MPROTECT, MEMORY_CALL_NONE };

struct memory_exec {
	struct sonde_event event;
	SONDE_CREDENTIALS;
	SONDE_RESULT;
	__u32 call SONDE_AS("names=mmap|mprotect|pkey_mprotect|none")
		SONDE_DOC("system call that did it, or failed to; none: of what tells the rest of a program that ends");
	__u32 kind SONDE_AS("names=unknown|anonymous|file|nameless") SONDE_DOC(
		"what it is: of no file; of one, of which there is a copy of its own that it may have written; of "
		"one that has no name any more, or never had, as a memfd");
	__u32 prot SONDE_DOC("PROT_* of sys/mman.h that it asked for: 1 read, 2 write, 4 exec") SONDE_OPTIONAL;
	__u32 flags SONDE_DOC("of mmap: MAP_* of sys/mman.h") SONDE_OPTIONAL;
	__u64 address SONDE_DOC("where it begins; absent in what tells the rest of a program that ends") SONDE_OPTIONAL;
	__u64 length_bytes SONDE_DOC("how long it is, as it was asked for") SONDE_OPTIONAL;
	__u64 count SONDE_DOC("so many of this kind since the event before in this process, this one among them");
	__u64 ino SONDE_DOC("of a file: its inode number") SONDE_OPTIONAL;
	__u64 dev SONDE_DOC("of a file: its device, as stat(2) numbers it") SONDE_OPTIONAL;
	char name[64] SONDE_DOC("of a file: its name, without folders; of a memfd as /proc has it: memfd:NAME")
		SONDE_OPTIONAL;
};

struct memory_memfd {
	struct sonde_event event;
	SONDE_CREDENTIALS;
	SONDE_RESULT;
	struct sonde_text name SONDE_DOC("its name, as the kernel has it") SONDE_OPTIONAL;
	__u32 flags SONDE_DOC("MFD_* of sys/mman.h: 1 close on exec, 2 sealing, 8 never executable, 16 executable")
		SONDE_OPTIONAL;
	__u64 ino SONDE_DOC("inode number of the file") SONDE_OPTIONAL;
};

struct memory_userfaultfd {
	struct sonde_event event;
	SONDE_CREDENTIALS;
	SONDE_RESULT;
	__u32 flags SONDE_DOC("O_* and UFFD_* flags; 1: faults of programs only, not of the kernel for them")
		SONDE_OPTIONAL;
	__u32 _pad;
};

struct process_personality {
	struct sonde_event event;
	SONDE_CREDENTIALS;
	SONDE_RESULT;
	__u32 persona SONDE_DOC(
		"as it was set, see sys/personality.h: 0x400000 what can be read can be run, 0x40000 addresses "
		"are not random");
	__u32 old_persona SONDE_DOC("as it was before") SONDE_OPTIONAL;
};

SONDE_EVENT(memory_exec, "memory.exec", 1, priority,
	    "Memory that can be written, or may have been, was made executable, or the kernel refused.");
SONDE_EVENT(memory_memfd, "memory.memfd", 1, priority, "A file that is in memory only was made, or was not.");
SONDE_EVENT(memory_userfaultfd, "memory.userfaultfd", 1, priority,
	    "A process asked to handle page faults itself, which lets it stop the kernel where it copies.");
SONDE_EVENT(process_personality, "process.personality", 1, priority,
	    "A process made its readable memory executable, or its addresses predictable.");

#ifndef __bpf__
_Static_assert(sizeof(struct memory_exec) == 64 + 24 + 16 + 16 + 40 + 64, "no holes");
_Static_assert(sizeof(struct memory_memfd) == 64 + 24 + 16 + 8 + 8, "no holes");
#endif

#endif
