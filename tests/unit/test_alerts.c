/* SPDX-License-Identifier: Apache-2.0 */
/* Rules over ring records: which fire, what their outputs say, and what each field is served by; and how equal alerts are folded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <bpf/btf.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "alerts/fold.h"
#include "alerts/live.h"
#include "alerts/live_state.h"
#include "modules.h"
#include "probes/cred/cred.h"
#include "probes/exec/exec.h"
#include "probes/file/file.h"
#include "probes/isolation/isolation.h"
#include "probes/kernel/kernel.h"
#include "probes/memory/memory.h"
#include "probes/net/net.h"
#include "probes/process/process.h"
#include "probes/tcp/tcp.h"
#include "probes/uring/uring.h"
#include "rules/field.h"

/* --- a set of rules over the types of the modules --- */

struct world {
	struct schema *schema;
	struct processes *processes;
	struct users *users;
	struct rules *rules;
	struct live *live;
	const char *off; /* the module that does not run; NULL: all do */
};

static void add_module(struct schema *schema, const struct builtin_object *o)
{
	char path[] = "/tmp/sonde-object-XXXXXX";
	int fd = mkstemp(path);
	struct fault fault = { 0 };
	struct btf *btf;

	assert_int_equal(write_all(fd, o->begin, (size_t)(o->end - o->begin)), 0);
	close(fd);
	btf = btf__parse(path, NULL);
	unlink(path);
	if (!btf || schema_add(schema, o->name, btf, &fault) < 0)
		fail_msg("%s: %s", o->name, fault.text);
	btf__free(btf);
}

static void on_report(void *context, enum rules_level level, const char *sentence)
{
	if (level == RULES_ERROR)
		print_message("%s\n", sentence);
}

static bool runs(void *context, const char *module)
{
	const struct world *w = context;

	return !w->off || strcmp(module, w->off) != 0;
}

static struct live_setup setup_of(struct world *w)
{
	return (struct live_setup){ .rules = w->rules,
				    .schema = w->schema,
				    .processes = w->processes,
				    .users = w->users,
				    .host = "here",
				    .began = 1000,
				    .runs = runs,
				    .context = w };
}

static void open_world_without(struct world *w, const char *text, const char *off)
{
	const struct rules_file file = { "rules.yaml", text, strlen(text) };
	const struct rules_options options = { .report = on_report };
	struct fault fault = { 0 };

	*w = (struct world){ .off = off };
	assert_int_equal(schema_new(&w->schema), 0);
	for (const struct builtin_object *o = builtin_objects; o->name; o++)
		add_module(w->schema, o);
	assert_int_equal(processes_open(&w->processes, 1 << 20), 0);
	assert_int_equal(users_open(&w->users, "/etc/passwd", "/etc/group"), 0);
	if (rules_load(&w->rules, &file, 1, &options, &fault) < 0)
		fail_msg("%s", fault.text);
	const struct live_setup setup = setup_of(w);

	assert_int_equal(live_open(&w->live, &setup), 0);
}

static void open_world(struct world *w, const char *text)
{
	open_world_without(w, text, NULL);
}

static void close_world(struct world *w)
{
	live_close(w->live);
	rules_free(w->rules);
	users_close(w->users);
	processes_close(w->processes);
	schema_free(w->schema);
}

/* --- records --- */

struct record {
	union {
		struct sonde_event event;
		struct process_exec exec;
		struct file_open open;
		struct file_rename rename;
		struct file_symlink symlink;
		struct file_chmod chmod;
		struct file_chown chown;
		struct memory_exec memory;
		struct mount_attach mount;
		struct bpf_load load;
		struct process_ptrace ptrace;
		struct net_dup dup;
		struct cred_change cred;
		struct uring_op op;
		struct net_connect net_connect;
		struct net_bind bind;
		struct mount_detach umount;
		struct process_fork fork;
		struct process_signal signal;
		struct tcp_accept accept;
		struct tcp_connect connect;
		uint8_t bytes[65536];
	};
};

static struct record record;

static void begin(struct world *w, const char *type)
{
	const struct event_type *t = schema_find(w->schema, type, strlen(type));

	assert_non_null(t);
	memset(&record, 0, sizeof record);
	record.event = (struct sonde_event){ .size = t->size,
					     .type = t->id,
					     .time = 5000,
					     .proc = 7,
					     .parent = 3,
					     .pid = 70,
					     .tid = 70,
					     .comm = "cat" };
}

static struct sonde_text put(const void *bytes, size_t size)
{
	struct sonde_text text = { (uint16_t)record.event.size, (uint16_t)size };

	memcpy(record.bytes + record.event.size, bytes, size);
	record.event.size += (uint32_t)size;
	return text;
}

static void expect(struct world *w, uint64_t seq, const char *names)
{
	uint32_t matched[16];
	uint32_t n =
		live_wants(w->live, record.event.type) ? live_match(w->live, &record.event, seq, 100, matched, 16) : 0;
	char fired[512] = "";

	for (uint32_t i = 0; i < n; i++)
		snprintf(fired + strlen(fired), sizeof fired - strlen(fired), "%s%s", i ? " " : "",
			 rules_at(w->rules, matched[i])->name);
	assert_string_equal(fired, names);
}

static void expect_output(struct world *w, const char *rule, const char *output)
{
	char room[2048];
	bool cut;

	live_format(w->live, (uint32_t)rules_find(w->rules, rule), room, sizeof room, &cut);
	assert_string_equal(room, output);
	assert_false(cut);
}

#define RULE(name, condition, output)                                                                                  \
	"- rule: " name "\n  desc: d\n  priority: INFO\n  output: \"" output "\"\n  condition: " condition "\n"

/* --- tests --- */

static void test_an_open(void **state)
{
	struct world w;

	open_world(&w, RULE("a", "evt.type in (open, openat) and evt.is_open_write = true and fd.directory = /etc",
			    "%fd.name %fd.filename %evt.type %fd.num %evt.arg.flags %evt.rawres %evt.res %fd.typechar "
			    "%user.name %user.uid %group.gid %proc.name %evt.num %evt.rawtime %evt.failed %fd.ino")
			       RULE("b", "evt.type = creat", "o") RULE("c", "evt.type = rename", "o")
				       RULE("d", "evt.type != open", "o") RULE("e", "evt.type.is.open = 1", "o")
					       RULE("f", "evt.is_open_create = true and evt.type = open", "o"));
	begin(&w, "file.open");
	record.open.flags = O_WRONLY | O_TRUNC;
	record.open.mode = S_IFREG | 0644;
	record.open.fd = 4;
	record.open.ino = 99;
	record.open.path = put("hosts\0etc\0", 10);
	expect(&w, 12, "a b e");
	expect_output(&w, "a", "/etc/hosts hosts openat 4 O_WRONLY|O_TRUNC 4 SUCCESS f root 0 0 cat 12 5100 false 99");
	record.open.flags = O_RDONLY;
	expect(&w, 13, "b e");
	record.open.created = true;
	expect(&w, 13, "b e f");
	record.open.path.offset = 65000; /* outside of the record */
	record.open.path.length = 1000;
	expect(&w, 14, "b e f");
	expect_output(&w, "a", "<NA> <NA> openat 4 O_RDONLY 4 SUCCESS f root 0 0 cat 14 5100 false 99");
	close_world(&w);
}

/* Each way to open, and what each kind of file is. */
static void test_ways_to_open(void **state)
{
	static const struct {
		uint32_t flags, mode;
		bool created;
		const char *said;
	} rows[] = {
		{ O_RDONLY, S_IFREG | 0644, false, "true false false false file f O_RDONLY" },
		{ O_WRONLY | O_APPEND, S_IFREG | 0644, false, "false true false false file f O_WRONLY|O_APPEND" },
		{ O_RDWR, S_IFIFO | 0600, false, "true true false false pipe p O_RDWR" },
		{ O_RDONLY | O_DIRECTORY, S_IFDIR | 0755, false,
		  "true false false false directory d O_RDONLY|O_DIRECTORY" },
		{ O_WRONLY, S_IFREG | 0644, true, "false true true false file f O_WRONLY" },
		{ O_WRONLY, S_IFREG | 0710, true, "false true true true file f O_WRONLY" },
		{ O_WRONLY, S_IFREG | 0710, false, "false true false false file f O_WRONLY" },
		{ O_RDWR, S_IFSOCK | 0710, false, "true true false false unix u O_RDWR" },
	};
	struct world w;

	open_world(&w, RULE("a", "evt.type = open",
			    "%evt.is_open_read %evt.is_open_write %evt.is_open_create %evt.is_open_exec %fd.type "
			    "%fd.typechar %evt.arg.flags")
			       RULE("b", "evt.type = open",
				    "%fd.name %fd.nameraw %fd.dev %fd.dev.major %fd.dev.minor %evt.arg.mode "
				    "%evt.rawarg.mode %evt.reltime"));
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		begin(&w, "file.open");
		record.open.flags = rows[i].flags;
		record.open.mode = rows[i].mode;
		record.open.created = rows[i].created;
		expect(&w, 1, "a b");
		expect_output(&w, "a", rows[i].said);
	}
	begin(&w, "file.open");
	record.open.path_given = put("secret", 6); /* it was done: what was asked for says nothing of what was opened */
	record.open.mode = S_ISUID | S_IRUSR;
	record.open.dev = makedev(8, 17);
	expect(&w, 1, "a b");
	expect_output(&w, "b", "<NA> secret 2065 8 17 S_ISUID|S_IRUSR 2304 4000");
	close_world(&w);
}

static void test_a_failed_open(void **state)
{
	struct world w;

	open_world(&w, RULE("a", "evt.type = openat and fd.num = -1 and evt.res startswith E",
			    "%fd.name %fd.nameraw %evt.res %evt.rawres %evt.failed %evt.arg.res %evt.rawarg.res"));
	begin(&w, "file.open");
	record.open.error = -EACCES;
	record.open.path_given = put("../etc/shadow", 13);
	expect(&w, 0, "a");
	expect_output(&w, "a", "../etc/shadow ../etc/shadow EACCES -13 true EACCES -13");
	close_world(&w);
}

/* What a call returned is its own, not the descriptor that it was about. */
static void test_results(void **state)
{
	struct world w;

	open_world(&w,
		   RULE("m", "evt.type in (chmod, fchmodat) and evt.failed = false and evt.arg.mode contains S_ISUID",
			"%evt.rawres %evt.res %evt.arg.res %evt.rawarg.res %evt.count.error")
			   RULE("c", "evt.type = connect and evt.rawres = 0 and evt.arg.res = 0", "%fd.num"));
	begin(&w, "file.chmod");
	record.chmod.mode = S_ISUID | 0755;
	record.chmod.fd = -1;
	expect(&w, 1, "m");
	expect_output(&w, "m", "0 SUCCESS 0 0 <NA>");
	record.chmod.fd = 5;
	expect(&w, 1, "m");
	expect_output(&w, "m", "0 SUCCESS 0 0 <NA>");
	record.chmod.error = -EPERM;
	expect(&w, 1, "");
	begin(&w, "net.connect");
	record.net_connect.fd = 6;
	expect(&w, 1, "c");
	expect_output(&w, "c", "6");
	close_world(&w);
}

/* As alerts/arguments.c numbers them: never a key that happens to stand there. */
static void test_arguments_by_number(void **state)
{
	struct world w;

	open_world(&w, RULE("o", "evt.type = openat",
			    "%evt.arg[0] %evt.arg[2] %evt.arg[3] %evt.arg[6] %evt.arg[7] %evt.arg[99]")
			       RULE("n", "evt.type = open and evt.arg[2] startswith /etc/", "o")
				       RULE("s", "evt.type = symlink", "%evt.arg[1] %evt.arg[2]")
					       RULE("p", "evt.type = ptrace", "%evt.arg[0] %evt.arg[1]"));
	begin(&w, "file.open");
	record.open.fd = 4;
	record.open.flags = O_WRONLY;
	record.open.path = put("hosts\0etc\0", 10);
	record.open.ino = 99;
	expect(&w, 1, "o n");
	expect_output(&w, "o", "4 /etc/hosts O_WRONLY 99 <NA> <NA>");
	begin(&w, "file.symlink");
	record.symlink.path = put("link\0tmp\0", 9);
	record.symlink.target = put("/etc/shadow", 11);
	expect(&w, 1, "s");
	expect_output(&w, "s", "/etc/shadow /tmp/link");
	begin(&w, "process.ptrace");
	expect(&w, 1, "p");
	expect_output(&w, "p", "<NA> <NA>");
	close_world(&w);
}

static void test_arguments_by_name(void **state)
{
	struct world w;

	open_world(&w, RULE("x", "evt.type = mprotect and evt.arg.prot contains PROT_EXEC",
			    "%evt.arg.prot %evt.rawarg.prot %evt.arg.flags")
			       RULE("b", "evt.type = bpf and evt.arg.cmd = BPF_PROG_LOAD", "o")
				       RULE("m", "evt.type = mount and evt.arg.type = ext4",
					    "%evt.arg.dev %evt.arg.dir %evt.arg.flags")
					       RULE("o", "evt.type = chown", "%evt.arg.uid %evt.arg.gid %user.uid"));
	begin(&w, "memory.exec");
	record.memory.call = 1;
	record.memory.prot = PROT_READ | PROT_EXEC;
	record.memory.flags = MAP_PRIVATE | MAP_ANONYMOUS;
	expect(&w, 1, "x");
	expect_output(&w, "x", "PROT_READ|PROT_EXEC 5 MAP_PRIVATE|MAP_ANONYMOUS");
	begin(&w, "bpf.load");
	expect(&w, 1, "b");
	begin(&w, "mount.attach");
	record.mount.source = put("/dev/sda1", 9);
	record.mount.path = put("mnt\0", 4);
	memcpy(record.mount.fs_type, "ext4", 4);
	record.mount.flags = MS_BIND | MS_NODEV;
	expect(&w, 1, "m");
	expect_output(&w, "m", "/dev/sda1 /mnt MS_NODEV|MS_BIND");
	begin(&w, "file.chown");
	record.chown.owner = 1000;
	record.chown.group = -1;
	expect(&w, 1, "o");
	expect_output(&w, "o", "1000 -1 0");
	close_world(&w);
}

/* Whom /etc/passwd does not have, as most of whom containers are, is somebody all the same. */
static void test_nameless_users(void **state)
{
	struct world w;

	open_world(&w,
		   RULE("n", "evt.type = open and user.name != root", "%user.name %user.uid %group.name %user.homedir")
			   RULE("r", "evt.type = open and user.name = root", "o"));
	begin(&w, "file.open");
	record.open.euid = 4000000000u;
	record.open.egid = 4000000001u;
	expect(&w, 1, "n");
	expect_output(&w, "n", "<NA> 4000000000 <NA> <NA>");
	record.open.euid = 0;
	expect(&w, 1, "r");
	close_world(&w);
}

static void test_links(void **state)
{
	struct world w;

	open_world(&w,
		   RULE("l", "evt.type = symlink",
			"%evt.arg.target %evt.arg.linkpath %fs.path.source %fs.path.target %fs.path.name")
			   RULE("r", "evt.type = renameat2 and fs.path.target startswith /tmp/",
				"%fs.path.source %fs.path.target %evt.arg.oldpath %evt.arg.newpath %evt.abspath.dst"));
	begin(&w, "file.symlink");
	record.symlink.path = put("link\0tmp\0", 9);
	record.symlink.target = put("/etc/shadow", 11);
	expect(&w, 1, "l");
	expect_output(&w, "l", "/etc/shadow /tmp/link /etc/shadow /tmp/link <NA>");
	begin(&w, "file.rename");
	record.rename.path = put("a\0", 2);
	record.rename.new_path = put("b\0tmp\0", 6);
	expect(&w, 1, "r");
	expect_output(&w, "r", "/a /tmp/b /a /tmp/b /tmp/b");
	close_world(&w);
}

static void test_sockets(void **state)
{
	static const uint8_t local[16] = { [10] = 0xff, 0xff, 10, 0, 0, 5 },
			     remote[16] = { [10] = 0xff, 0xff, 8, 8, 4, 4 };
	struct world w;

	open_world_without(
		&w,
		RULE("c", "evt.type = connect and fd.sip = 8.8.4.4 and fd.sport = 443 and fd.snet in (8.0.0.0/8)",
		     "%fd.name %fd.cip %fd.cport %fd.lip %fd.rport %fd.l4proto %fd.type %fd.typechar %fd.sockfamily "
		     "%fd.is_server %fd.connected")
			RULE("d", "evt.type in (dup, dup2) and fd.num in (0, 1, 2) and fd.type in (ipv4, ipv6)",
			     "%fd.name %evt.arg.domain %fd.l4proto"),
		"net");
	begin(&w, "tcp.connect");
	memcpy(record.connect.laddr.bytes, local, 16);
	memcpy(record.connect.raddr.bytes, remote, 16);
	record.connect.lport = 40000;
	record.connect.rport = 443;
	expect(&w, 1, "c");
	expect_output(&w, "c", "10.0.0.5:40000->8.8.4.4:443 10.0.0.5 40000 10.0.0.5 443 tcp ipv4 4 ip false true");
	record.connect.rport = 80;
	expect(&w, 1, "");
	begin(&w, "net.dup");
	memcpy(record.dup.laddr.bytes, local, 16);
	memcpy(record.dup.raddr.bytes, remote, 16);
	record.dup.rport = 4444;
	record.dup.lport = 1;
	record.dup.family = 2;
	record.dup.protocol = 6;
	expect(&w, 1, "d");
	expect_output(&w, "d", "10.0.0.5:1->8.8.4.4:4444 AF_INET tcp");
	record.dup.fd = 3;
	expect(&w, 1, "");
	close_world(&w);
}

/* Where the record says which call it was, it is that one alone. */
static void test_records_that_name_their_call(void **state)
{
	struct world w;

	open_world(&w,
		   RULE("s", "evt.type = setuid", "%evt.type") RULE("c", "evt.type in (capset, setgid)", "%evt.type")
			   RULE("o", "evt.type in (open, openat) and evt.arg.name = /a", "%evt.type %fd.name")
				   RULE("x", "evt.type = rename", "o") RULE("u", "evt.type = umount2", "%evt.type")
					   RULE("m", "evt.type in (mount, umount)", "%evt.type"));
	begin(&w, "cred.change");
	record.cred.call = CRED_CALL_SETUID;
	expect(&w, 1, "s");
	expect_output(&w, "s", "setuid");
	record.cred.call = CRED_CALL_CAPSET;
	expect(&w, 1, "c");
	record.cred.call = CRED_CALL_NONE;
	expect(&w, 1, "");
	begin(&w, "uring.op");
	record.op.op = 18; /* openat */
	record.op.name = put("/a", 2);
	expect(&w, 1, "o");
	expect_output(&w, "o", "openat <NA>"); /* where the name begins is not said */
	record.op.op = 16;
	expect(&w, 1, "");
	begin(&w, "mount.detach"); /* the kernel's name of the call is not the C library's */
	record.umount.call = 1;
	expect(&w, 1, "u m");
	expect_output(&w, "u", "umount2");
	record.umount.call = 0;
	expect(&w, 1, "m");
	close_world(&w);
}

/* A connect that failed has the address that it was given; and where net.connect is there, tcp.connect says nothing anew. */
static void test_a_failed_connect(void **state)
{
	static const uint8_t remote[16] = { [10] = 0xff, 0xff, 8, 8, 4, 4 };
	struct world w;

	open_world(&w,
		   RULE("c", "evt.type = connect and fd.sip = 8.8.4.4", "%fd.name %fd.sport %evt.res %fd.connected"));
	begin(&w, "net.connect");
	record.net_connect.error = -ENETUNREACH;
	memcpy(record.net_connect.addr_given.bytes, remote, 16);
	record.net_connect.port_given = 53;
	expect(&w, 1, "c");
	expect_output(&w, "c", "8.8.4.4:53 53 ENETUNREACH false");
	begin(&w, "tcp.connect");
	assert_false(live_wants(w.live, record.event.type));
	close_world(&w);
}

/* Which end is whose, and that of a bind that failed. */
static void test_servers(void **state)
{
	static const uint8_t local[16] = { [10] = 0xff, 0xff, 10, 0, 0, 5 }, remote[16] = { 0xfd, [15] = 9 };
	struct world w;

	open_world_without(&w,
			   RULE("a", "evt.type = accept",
				"%fd.is_server %fd.name %fd.cip %fd.cport %fd.sip %fd.sport %fd.lport %fd.rip %fd.type")
				   RULE("b", "evt.type = bind", "%fd.is_server %fd.sip %fd.sport %evt.res %fd.cip"),
			   "net");
	begin(&w, "tcp.accept");
	memcpy(record.accept.laddr.bytes, local, 16);
	memcpy(record.accept.raddr.bytes, remote, 16);
	record.accept.lport = 80;
	record.accept.rport = 50000;
	expect(&w, 1, "a");
	expect_output(&w, "a", "true fd00::9:50000->10.0.0.5:80 fd00::9 50000 10.0.0.5 80 80 fd00::9 ipv6");
	begin(&w, "net.bind");
	record.bind.error = -EADDRINUSE;
	memcpy(record.bind.addr_given.bytes, local, 16);
	record.bind.port_given = 80;
	expect(&w, 1, "b");
	expect_output(&w, "b", "true 10.0.0.5 80 EADDRINUSE <NA>");
	close_world(&w);
}

static void test_flags_and_signals(void **state)
{
	struct world w;

	open_world(&w, RULE("f", "evt.type = clone", "%evt.arg.flags %evt.rawarg.flags")
			       RULE("s", "evt.type = kill", "%evt.arg.sig %evt.rawarg.sig %evt.arg.pid %evt.category"));
	begin(&w, "process.fork");
	record.fork.flags = CLONE_NEWNS | CLONE_NEWPID | SIGCHLD;
	expect(&w, 1, "f");
	expect_output(&w, "f", "CLONE_NEWNS|CLONE_NEWPID 537002001");
	begin(&w, "process.signal");
	record.signal.signal = SIGTERM;
	record.signal.target_pid = 9;
	expect(&w, 1, "s");
	expect_output(&w, "s", "SIGTERM 15 9 process");
	close_world(&w);
}

static void test_ptrace(void **state)
{
	struct world w;

	open_world(&w, RULE("p", "evt.type = ptrace and evt.arg.request contains PTRACE_ATTACH",
			    "%evt.arg.request %evt.arg.pid %evt.rawarg.request"));
	begin(&w, "process.ptrace");
	record.ptrace.request_name = PROCESS_REQUEST_ATTACH;
	record.ptrace.request = PTRACE_ATTACH;
	record.ptrace.target_pid = 123;
	expect(&w, 1, "p");
	expect_output(&w, "p", "PTRACE_ATTACH 123 16");
	record.ptrace.request_name = PROCESS_REQUEST_SEIZE;
	expect(&w, 1, "");
	close_world(&w);
}

static void put_exec(struct world *w, const char *comm, const char *args, size_t size)
{
	begin(w, "process.exec");
	snprintf(record.event.comm, sizeof record.event.comm, "%s", comm);
	record.exec.args = put(args, size);
	record.exec.exe = put("nc\0bin\0", 7);
	record.exec.cwd = put("/\0", 2);
	memcpy(record.exec.tty, "pts3", 4);
}

static void ancestor(struct world *w, uint64_t proc, uint64_t parent, uint32_t pid, const char *comm)
{
	struct process p = { .proc = proc,
			     .parent = parent,
			     .pid = pid,
			     .began = 2000,
			     .detailed = true,
			     .exe = "/usr/sbin/x",
			     .exe_length = 11,
			     .args = "first\0-a\0b c",
			     .args_length = 13 };

	snprintf(p.comm, sizeof p.comm, "%s", comm);
	processes_exec(w->processes, &p);
}

static void test_programs_and_ancestors(void **state)
{
	struct world w;

	open_world(&w,
		   RULE("n",
			"evt.type in (execve, execveat) and evt.dir = < and proc.name = nc and proc.args contains '-e'",
			"%proc.cmdline|%proc.args|%proc.args[1]|%proc.exe|%proc.exepath|%proc.cwd|%proc.tty|%proc."
			"exeline|%proc.cmdnargs|%proc.cmdlenargs")
			   RULE("a", "evt.type = execve and proc.aname = sshd",
				"%proc.pname|%proc.aname[0]|%proc.aname[1]|%proc.aname[2]|%proc.aname[3]|%proc."
				"pcmdline|%proc.ppid|%proc.pexe|"
				"%proc.pexepath|%proc.ppid.duration|%proc.apid[2]|%proc.loginshellid")
				   RULE("s", "evt.type = execve and proc.aname in (nginx, httpd)", "o")
					   RULE("c", "evt.type = execve and proc.acmdline contains 'first'", "o")
						   RULE("m", "evt.type = execve and container.id != host", "o"));
	ancestor(&w, 1, 0, 10, "init");
	ancestor(&w, 2, 1, 20, "sshd");
	ancestor(&w, 3, 2, 30, "bash");
	put_exec(&w, "nc", "nc\0-e\0/bin/sh", 14);
	expect(&w, 1, "n a");
	expect_output(&w, "n", "nc -e /bin/sh|-e /bin/sh|/bin/sh|nc|/bin/nc|/|34819|nc -e /bin/sh|2|9");
	expect_output(&w, "a", "bash|nc|bash|sshd|init|bash -a b c|30|first|/usr/sbin/x|3000|20|30");
	put_exec(&w, "nc", "nc", 2);
	expect(&w, 1, "a");
	expect_output(&w, "n", "nc||<NA>|nc|/bin/nc|/|34819|nc|0|0");
	record.event.parent = 999; /* not known */
	expect(&w, 1, "");
	expect_output(&w, "a", "<NA>|nc|<NA>|<NA>|<NA>|<NA>|<NA>|<NA>|<NA>|<NA>|<NA>|<NA>");
	close_world(&w);
}

/* What the record of a program that begins says of it, and the leaders of its session and its group. */
static void test_a_program(void **state)
{
	struct process session = { .proc = 50,
				   .pid = 500,
				   .comm = "session",
				   .exe = "",
				   .cwd = "",
				   .args = "s",
				   .args_length = 1 },
		       group = { .proc = 60,
				 .pid = 600,
				 .comm = "group",
				 .exe = "/g",
				 .exe_length = 2,
				 .cwd = "",
				 .args = "" };
	struct world w;

	open_world(
		&w,
		RULE("u", "evt.type = execve",
		     "%user.uid %user.name %group.gid %user.loginuid %user.loginname %thread.cap_effective %proc.vpid")
			RULE("l", "evt.type = execve",
			     "%proc.sid %proc.sname %proc.sid.exe %proc.pgid %proc.pgid.name %proc.pgid.exepath "
			     "%proc.is_sid_leader %proc.is_pgid_leader")
				RULE("e", "evt.type = execve",
				     "%proc.env[A] %proc.env[AB] %proc.env[B] %proc.tty %evt.arg.flags "
				     "%proc.is_exe_writable %proc.is_exe_upper_layer %proc.is_exe_from_memfd "
				     "%proc.exe_ino %thread.nametid %proc.stdin.type"));
	processes_exec(w.processes, &session);
	processes_exec(w.processes, &group);
	put_exec(&w, "x", "x", 1);
	record.exec.uid = 4000000000u;
	record.exec.gid = 4000000001u;
	record.exec.egid = 4000000002u;
	record.exec.loginuid = UINT32_MAX;
	record.exec.caps = 1u << 21 | 1;
	record.exec.ns_pid = 4;
	record.exec.sid = 500;
	record.exec.pgid = 600;
	record.exec.ino = 77;
	record.exec.env = put("AB=1\0A=2=3\0", 11);
	memcpy(record.exec.tty, "tty2", 5);
	expect(&w, 1, "u l e");
	expect_output(&w, "u", "0 root 4000000002 -1 <NA> CAP_CHOWN CAP_SYS_ADMIN 4");
	expect_output(&w, "l", "500 session s 600 group /g false false");
	expect_output(&w, "e", "2=3 1 <NA> 1026 0 false false false 77 x:70 <NA>");
	record.exec.loginuid = 0;
	record.exec.sid = record.exec.pgid = 70;
	record.exec.upper = record.exec.memfd = true;
	record.exec.stdin = 1;
	expect(&w, 1, "u l e");
	expect_output(&w, "u", "0 root 4000000002 0 root CAP_CHOWN CAP_SYS_ADMIN 4");
	expect_output(&w, "l", "70 x x 70 x /bin/nc true true");
	expect_output(&w, "e", "2=3 1 <NA> 1026 EXE_UPPER_LAYER EXE_FROM_MEMFD false true true 77 x:70 file");
	close_world(&w);
}

static void test_which_rules_are_served(void **state)
{
	struct world w;
	struct live_setup setup;
	const char *module = "";

	open_world(&w, RULE("x", "evt.type = execve and proc.name = a", "o")
			       RULE("f", "evt.type = openat and fd.num = 3", "o")
				       RULE("n", "evt.type = setns and proc.name = a", "o")
					       RULE("z", "evt.type = getpid and proc.name = a", "o"));
	setup = setup_of(&w);
	assert_true(live_is_served(&setup, 0, &module));
	assert_true(live_is_served(&setup, 1, &module));
	assert_true(live_is_served(&setup, 2, &module));
	w.off = "file";
	assert_false(live_is_served(&setup, 1, &module));
	assert_string_equal(module, "file");
	assert_true(live_is_served(&setup, 0, &module));
	assert_true(live_is_served(&setup, 3, &module)); /* of programs of 32 bits */
	w.off = "syscalls";
	assert_false(live_is_served(&setup, 3, &module));
	assert_string_equal(module, "syscalls");
	begin(&w, "process.fork");
	assert_false(live_wants(w.live, record.event.type));
	assert_false(live_wants(w.live, 60000));
	close_world(&w);
}

/* The table of fields says where each comes from, and that is so. */
static void test_every_field_is_served_or_says_so(void **state)
{
	for (size_t i = 0; i < n_rule_fields; i++)
		if (live_serves(&rule_fields[i]) != (rule_fields[i].key != NULL))
			fail_msg("%s: %s", rule_fields[i].name,
				 rule_fields[i].key ? "it has a key and nothing serves it"
						    : "it is served and has no key");
}

/* Each name that a type stands for is one of evt.type; and rules know every type of security that a call makes. */
static void test_calls_are_known(void **state)
{
	struct world w;
	unsigned named = 0;

	open_world(&w, RULE("x", "evt.type = execve", "o"));
	for (size_t i = 0; i < schema_count(w.schema); i++) {
		const struct event_type *type = schema_type(w.schema, i);
		const char *names = live_call_names(type->name);
		struct event_types known;
		unsigned words = 1;

		if (!names && type->security && strcmp(type->name, "syscall.compat") && strcmp(type->name, "alert"))
			fail_msg("%s: rules know nothing of it", type->name);
		if (!names)
			continue;
		named++;
		for (const char *c = names; *c; c++)
			words += *c == ' ';
		live_calls(type->name, &known);
		if (event_types_count(&known) != words)
			fail_msg("%s: of '%s' only %u are known", type->name, names, event_types_count(&known));
	}
	assert_true(named > 40);
	close_world(&w);
}

/* --- folding --- */

struct told {
	unsigned n;
	uint64_t count, seq;
	uint32_t rule;
	bool cut;
	char output[FOLD_OUTPUT_MAX + 1];
};

static void on_folded(void *context, const struct fold_alert *folded)
{
	struct told *told = context;

	told->n++;
	told->count += folded->count;
	told->seq = folded->seq;
	told->rule = folded->rule;
	told->cut = folded->cut;
	memcpy(told->output, folded->output, folded->output_size);
	told->output[folded->output_size] = '\0';
}

static bool take(struct fold *fold, uint32_t rule, uint64_t proc, uint64_t seq, const char *output, uint64_t now)
{
	const struct sonde_event event = { .proc = proc };
	const struct fold_alert alert = {
		.rule = rule, .event = &event, .seq = seq, .output = output, .output_size = strlen(output)
	};

	return fold_take(fold, &alert, now);
}

static void test_fold(void **state)
{
	struct told told = { 0 };
	struct fold *fold;

	assert_int_equal(fold_open(&fold, 100, on_folded, &told), 0);
	assert_true(take(fold, 1, 7, 1, "a", 1000));
	assert_false(take(fold, 1, 7, 2, "b", 1010));
	assert_true(take(fold, 2, 7, 3, "other rule", 1010));
	assert_true(take(fold, 1, 8, 4, "other proc", 1010));
	assert_false(take(fold, 1, 7, 5, "c", 1099));
	fold_tick(fold, 1099);
	assert_int_equal(told.n, 0);
	fold_tick(fold, 1100);
	assert_int_equal(told.n, 1);
	assert_int_equal(told.count, 2);
	assert_int_equal(told.seq, 5);
	assert_int_equal(told.rule, 1);
	assert_string_equal(told.output, "c");
	assert_false(told.cut);
	assert_true(take(fold, 1, 7, 6, "again", 1100));
	fold_tick(fold, 2000); /* nothing was folded in any of those */
	assert_int_equal(told.n, 1);
	assert_true(take(fold, 1, 0, 7, "nobody's", 2000));
	assert_true(take(fold, 1, 0, 8, "nobody's", 2000));
	fold_close(fold);
}

struct account {
	uint64_t made, direct, folded;
};

static void on_accounted(void *context, const struct fold_alert *folded)
{
	struct account(*accounts)[3000] = context;

	accounts[folded->rule][folded->event->proc - 1].folded += folded->count;
}

/* However many there are: each is told at once or counted, for the rule and the process that it is of. */
static void test_fold_is_bounded(void **state)
{
	static struct account accounts[3][3000];
	uint64_t total = 200000, seed = 1, folded = 0, early = 0;
	struct fold *fold;

	assert_int_equal(fold_open(&fold, 1000000, on_accounted, accounts), 0);
	for (uint64_t i = 0; i < total; i++) {
		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		/* Some come often, most seldom. */
		uint32_t rule = (uint32_t)(seed >> 60) % 3, spread = (uint32_t)(seed >> 40) % 3000 + 1;
		uint64_t proc = 1 + (seed >> 20) % spread;

		accounts[rule][proc - 1].made++;
		accounts[rule][proc - 1].direct += take(fold, rule, proc, i, "output", i);
	}
	fold_flush(fold);
	for (size_t r = 0; r < 3; r++)
		for (size_t p = 0; p < 3000; p++) {
			const struct account *a = &accounts[r][p];

			assert_int_equal(a->direct + a->folded, a->made);
			folded += a->folded;
			early += a->direct > 1;
		}
	assert_true(folded > total / 10 && early > 100);
	fold_close(fold);
}

static void test_fold_cuts_whole_characters(void **state)
{
	struct told told = { 0 };
	char output[FOLD_OUTPUT_MAX + 8];
	struct fold *fold;

	memset(output, 'x', sizeof output);
	memcpy(output + FOLD_OUTPUT_MAX - 1, "\xc3\xa4", 2);
	output[sizeof output - 1] = '\0';
	assert_int_equal(fold_open(&fold, 100, on_folded, &told), 0);
	take(fold, 1, 1, 1, output, 0);
	take(fold, 1, 1, 1, output, 0);
	fold_flush(fold);
	assert_int_equal(strlen(told.output), FOLD_OUTPUT_MAX - 1);
	assert_true(told.cut);
	fold_close(fold);
}

static void test_without_folding(void **state)
{
	struct told told = { 0 };
	struct fold *fold;

	assert_int_equal(fold_open(&fold, 0, on_folded, &told), 0);
	assert_true(take(fold, 1, 1, 1, "o", 5));
	assert_true(take(fold, 1, 1, 1, "o", 5));
	fold_flush(fold);
	assert_int_equal(told.n, 0);
	fold_close(fold);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_open),
		cmocka_unit_test(test_ways_to_open),
		cmocka_unit_test(test_a_failed_open),
		cmocka_unit_test(test_results),
		cmocka_unit_test(test_arguments_by_number),
		cmocka_unit_test(test_arguments_by_name),
		cmocka_unit_test(test_nameless_users),
		cmocka_unit_test(test_links),
		cmocka_unit_test(test_sockets),
		cmocka_unit_test(test_servers),
		cmocka_unit_test(test_flags_and_signals),
		cmocka_unit_test(test_ptrace),
		cmocka_unit_test(test_records_that_name_their_call),
		cmocka_unit_test(test_a_failed_connect),
		cmocka_unit_test(test_programs_and_ancestors),
		cmocka_unit_test(test_a_program),
		cmocka_unit_test(test_which_rules_are_served),
		cmocka_unit_test(test_every_field_is_served_or_says_so),
		cmocka_unit_test(test_calls_are_known),
		cmocka_unit_test(test_fold),
		cmocka_unit_test(test_fold_is_bounded),
		cmocka_unit_test(test_fold_cuts_whole_characters),
		cmocka_unit_test(test_without_folding),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
