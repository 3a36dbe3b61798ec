/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What reaches into the kernel, one way a command: bpf, perf FILE, keys, kexec, module FILE, quiet. Each line that is printed, NAME VALUE...,
 * is what the kernel said of it: the truth that the test compares with.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/keyctl.h>
#include <linux/perf_event.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int bpf(int command, union bpf_attr *attr)
{
	return (int)syscall(SYS_bpf, command, attr, sizeof *attr);
}

static const char *error_of(long r)
{
	return r < 0 ? strerrorname_np(errno) : "-";
}

/* ---- bpf ---- */

static int load_program(uint32_t type, uint32_t attach_type, const char *name, int32_t returns, bool good)
{
	struct bpf_insn insns[] = { { .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = good ? 0 : 3, .imm = returns },
				    { .code = BPF_JMP | BPF_EXIT } };
	union bpf_attr attr = { .prog_type = type,
				.insns = (uintptr_t)insns,
				.insn_cnt = 2,
				.license = (uintptr_t) "GPL",
				.expected_attach_type = attach_type };
	int fd;

	strcpy(attr.prog_name, name);
	fd = bpf(BPF_PROG_LOAD, &attr);
	printf("load %s %s\n", name, error_of(fd));
	return fd;
}

static void tell_program(int fd)
{
	struct bpf_prog_info info = { 0 };
	union bpf_attr attr = { .info = { .bpf_fd = (uint32_t)fd, .info_len = sizeof info, .info = (uintptr_t)&info } };

	if (bpf(BPF_OBJ_GET_INFO_BY_FD, &attr) < 0)
		exit(99);
	printf("program %s %u %u ", info.name, info.id, info.type);
	for (int i = 0; i < 8; i++)
		printf("%02x", info.tag[i]);
	printf("\n");
}

/* Names that are none: one without end, and one that lies behind the attributes. */
static void load_unnamed(void)
{
	union bpf_attr attr = { .prog_type = BPF_PROG_TYPE_SOCKET_FILTER };

	memset(attr.prog_name, 'n', sizeof attr.prog_name);
	printf("unnamed %s\n", error_of(bpf(BPF_PROG_LOAD, &attr)));
	strcpy(attr.prog_name, "behind");
	printf("unnamed %s\n", error_of(syscall(SYS_bpf, BPF_PROG_LOAD, &attr, 48)));
}

static int make_map(uint32_t key_bytes)
{
	union bpf_attr attr = { .map_type = BPF_MAP_TYPE_HASH,
				.key_size = key_bytes,
				.value_size = 24,
				.max_entries = 7,
				.map_flags = BPF_F_NO_PREALLOC };
	struct bpf_map_info info = { 0 };
	int fd;

	strcpy(attr.map_name, key_bytes ? "lk_map" : "lk_bad_map");
	fd = bpf(BPF_MAP_CREATE, &attr);
	printf("map %s\n", error_of(fd));
	if (fd < 0)
		return fd;
	attr = (union bpf_attr){ .info = {
					 .bpf_fd = (uint32_t)fd, .info_len = sizeof info, .info = (uintptr_t)&info } };
	if (bpf(BPF_OBJ_GET_INFO_BY_FD, &attr) < 0)
		exit(99);
	printf("map_info %s %u\n", info.name, info.id);
	return fd;
}

static void attach(int program)
{
	union bpf_attr attr = { .raw_tracepoint = { .name = (uintptr_t) "sys_enter", .prog_fd = (uint32_t)program } };
	struct bpf_link_info info = { 0 };
	int link = bpf(BPF_RAW_TRACEPOINT_OPEN, &attr);

	printf("attach raw_tracepoint_open %s\n", error_of(link));
	if (link < 0)
		return;
	attr = (union bpf_attr){
		.info = { .bpf_fd = (uint32_t)link, .info_len = sizeof info, .info = (uintptr_t)&info }
	};
	if (bpf(BPF_OBJ_GET_INFO_BY_FD, &attr) < 0)
		exit(99);
	printf("link %u %u\n", info.id, info.prog_id);
	attr = (union bpf_attr){ .link_update = { .link_fd = (uint32_t)link, .new_prog_fd = (uint32_t)program } };
	printf("attach link_update %s\n", error_of(bpf(BPF_LINK_UPDATE, &attr)));
	attr = (union bpf_attr){ .link_detach = { .link_fd = (uint32_t)link } };
	printf("attach link_detach %s\n", error_of(bpf(BPF_LINK_DETACH, &attr)));
	attr = (union bpf_attr){ .target_fd = 0,
				 .attach_bpf_fd = (uint32_t)program,
				 .attach_type = BPF_CGROUP_INET_EGRESS };
	printf("attach prog_attach %s\n", error_of(bpf(BPF_PROG_ATTACH, &attr)));
	printf("attach prog_detach %s\n", error_of(bpf(BPF_PROG_DETACH, &attr)));
	attr = (union bpf_attr){ .link_create = { .prog_fd = (uint32_t)program, .target_fd = (uint32_t)-1 } };
	printf("attach link_create %s\n", error_of(bpf(BPF_LINK_CREATE, &attr)));
}

static void run_bpf(void)
{
	int program;

	tell_program(load_program(BPF_PROG_TYPE_SOCKET_FILTER, 0, "lk_filter", 17, true));
	load_program(BPF_PROG_TYPE_SOCKET_FILTER, 0, "lk_bad", 0, false);
	tell_program(load_program(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET4_CONNECT, "lk_connect", 1, true));
	make_map(4);
	make_map(0);
	program = load_program(BPF_PROG_TYPE_RAW_TRACEPOINT, 0, "lk_raw", 0, true);
	tell_program(program);
	load_unnamed();
	attach(program);
}

/* What is no making and no attaching. */
static void run_quiet(void)
{
	int map = make_map(4);
	uint32_t key = 1;
	uint64_t value[3] = { 0 };
	union bpf_attr attr = { .map_fd = (uint32_t)map, .key = (uintptr_t)&key, .value = (uintptr_t)value };

	for (int i = 0; i < 100; i++) {
		bpf(BPF_MAP_UPDATE_ELEM, &attr);
		bpf(BPF_MAP_LOOKUP_ELEM, &attr);
	}
}

/* ---- perf ---- */

static void open_perf(const char *what, struct perf_event_attr *attr, int pid, int cpu)
{
	long fd;

	attr->size = sizeof *attr;
	fd = syscall(SYS_perf_event_open, attr, pid, cpu, -1, PERF_FLAG_FD_CLOEXEC);
	printf("perf %s %u %s\n", what, attr->type, error_of(fd));
}

static uint32_t pmu_type(const char *name)
{
	char path[128], text[16] = "";
	int fd;

	snprintf(path, sizeof path, "/sys/bus/event_source/devices/%s/type", name);
	fd = open(path, O_RDONLY);
	if (fd < 0 || read(fd, text, sizeof text - 1) < 1)
		return 0;
	close(fd);
	return (uint32_t)atoi(text);
}

extern char __executable_start;

/* `file` is this program: its own function is probed, whose code lies in the file as it does in memory. */
static void run_perf(const char *file)
{
	uint64_t offset = (uint64_t)((char *)run_quiet - &__executable_start);
	struct perf_event_attr clock = { .type = PERF_TYPE_SOFTWARE, .config = PERF_COUNT_SW_CPU_CLOCK },
			       faults = { .type = PERF_TYPE_SOFTWARE, .config = PERF_COUNT_SW_PAGE_FAULTS },
			       bad = { .type = 4000000000u, .config = 5 },
			       uprobe = { .type = pmu_type("uprobe"), .config1 = (uintptr_t)file, .config2 = offset },
			       kprobe = { .type = pmu_type("kprobe"), .config1 = (uintptr_t) "do_exit" };

	printf("offset %ju\n", (uintmax_t)offset);
	open_perf("cpu_clock", &clock, 0, -1);
	open_perf("bad", &bad, -1, 0);
	open_perf("software", &faults, (int)getpid(), -1);
	if (uprobe.type)
		open_perf("uprobe", &uprobe, -1, 0);
	if (kprobe.type)
		open_perf("kprobe", &kprobe, -1, 0);
}

/* ---- keys ---- */

static void run_keys(void)
{
	char lengthy[201];
	long key = syscall(SYS_add_key, "user", "lk:secret", "value", 5, KEY_SPEC_PROCESS_KEYRING);

	printf("key add_key %ld %s\n", key, error_of(key));
	key = syscall(SYS_keyctl, KEYCTL_REVOKE, key);
	printf("key revoke %ld %s\n", key, error_of(key));
	key = syscall(SYS_request_key, "user", "lk:none", NULL, 0);
	printf("key request_key %ld %s\n", key, error_of(key));
	key = syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 0);
	printf("key get_keyring_id %ld %s\n", key, error_of(key));
	key = syscall(SYS_keyctl, 33, 0);
	printf("key unknown %ld %s\n", key, error_of(key));
	key = syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, "lk:session");
	printf("key join_session_keyring %ld %s\n", key, error_of(key));
	memset(lengthy, 'd', sizeof lengthy - 1);
	lengthy[sizeof lengthy - 1] = 0;
	key = syscall(SYS_request_key, "user", lengthy, NULL, 0);
	printf("key request_key %ld %s\n", key, error_of(key));
	lengthy[95] = 0; /* as long as there is room */
	key = syscall(SYS_request_key, "user", lengthy, NULL, 0);
	printf("key request_key %ld %s\n", key, error_of(key));
}

/* ---- kexec, modules ---- */

static void run_kexec(const char *file)
{
	int fd = open(file, O_RDONLY);
	long r = syscall(SYS_kexec_load, 0L, 0L, NULL, 0x40000000L);

	printf("kexec kexec_load %s\n", error_of(r));
	r = syscall(SYS_kexec_file_load, fd, -1, 0L, NULL, 0L);
	printf("kexec kexec_file_load %s\n", error_of(r));
}

static void run_module(const char *file, const char *name)
{
	int fd = open(file, O_RDONLY);

	printf("module delete %s\n", error_of(syscall(SYS_delete_module, name, O_NONBLOCK)));
	printf("module finit %s\n", error_of(syscall(SYS_finit_module, fd, "", 0)));
	printf("module again %s\n", error_of(syscall(SYS_finit_module, fd, "", 0)));
	printf("module init %s\n", error_of(syscall(SYS_init_module, "nonsense", 8, "")));
	printf("module missing %s\n", error_of(syscall(SYS_delete_module, "lk_no_such", O_NONBLOCK)));
}

int main(int n, char **words)
{
	const char *command = n > 1 ? words[1] : "";

	if (!strcmp(command, "bpf"))
		run_bpf();
	else if (!strcmp(command, "quiet"))
		run_quiet();
	else if (!strcmp(command, "perf") && n == 3)
		run_perf(words[2]);
	else if (!strcmp(command, "keys"))
		run_keys();
	else if (!strcmp(command, "kexec") && n == 3)
		run_kexec(words[2]);
	else if (!strcmp(command, "module") && n == 4)
		run_module(words[2], words[3]);
	else
		return 2;
	return 0;
}
