# SPDX-License-Identifier: Apache-2.0
#
# What scripts/run and scripts/test share: saying what is done, installing what is missing, building, leaving nothing behind.
# A script sets `me` to its name before it sources this file.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=${SONDE_BUILD:-$root/build}

# One list of Debian packages for each purpose. A Debian 12 with nothing but git needs no more.
packages_build='gcc libc6-dev cmake ninja-build pkg-config clang llvm libbpf-dev libelf-dev zlib1g-dev libmsgpack-dev
	librdkafka-dev libpcap-dev libyaml-dev libcap-ng-dev libseccomp-dev libmicrohttpd-dev libncurses-dev
	liblzma-dev libiberty-dev'
packages_kafka='openjdk-17-jre-headless maven kcat python3 python3-msgpack'
packages_test="libcmocka-dev openjdk-17-jdk-headless g++ binutils xz-utils nodejs golang-go rustc python3 python3-jsonschema python3-msgpack python3-pyte iproute2 procps util-linux bpftool linux-perf curl chromium debuginfod tshark tcpdump graphviz libbpf-tools auditd"
# What tests/corpus is made with and run by.
packages_corpus='gcc g++ gcc-multilib musl-tools xz-utils binutils rustc golang-go nodejs openjdk-17-jdk-headless python3'
packages_fuzz='libclang-rt-14-dev llvm'
packages_vm='qemu-system-x86 busybox-static python3 iproute2 util-linux bpftool binutils'
packages_bench='tshark nginx-light libnginx-mod-http-echo wrk postgresql golang-go libbpf-tools bpftool python3 python3-yaml linux-perf redis-server redis-tools openjdk-17-jdk-headless'
packages_lint='clang-format git python3'

say() { printf '%s: %s\n' "$me" "$*" >&2; }
die() { say "$*"; exit 1; }

# The words that make the rest of a line run as root; nothing when we are.
as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo)

# need PURPOSE PACKAGE...: installs the packages of a list that are not there, and says so. Asking dpkg costs some 20 ms,
# and unlike a stamp file it is right after somebody removed one.
need() {
	local purpose=$1 missing
	shift
	command -v dpkg-query >/dev/null || return 0 # another distribution: what is missing will be said by cmake
	missing=$(comm -23 <(printf '%s\n' "$@" | sort -u) \
		<(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "$@" 2>/dev/null | sed -n 's/^installed //p' | sort -u))
	[ -n "$missing" ] || return 0
	[ "$(id -u)" = 0 ] || command -v sudo >/dev/null || die "to $purpose, install as root: apt-get install" $missing
	say "installing what is needed to $purpose:" $missing
	local log
	log=$(mktemp)
	if ! apt_install $missing >"$log" 2>&1; then
		tail -5 "$log" >&2
		rm -f "$log"
		die "apt could not install these packages"
	fi
	rm -f "$log"
}

# The lists of packages may be old or missing on a fresh machine; they are fetched only when needed.
apt_install() {
	local install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -y -o DPkg::Lock::Timeout=300 install --no-install-recommends)
	"${install[@]}" "$@" </dev/null && return
	"${as_root[@]}" apt-get -o DPkg::Lock::Timeout=300 update </dev/null && "${install[@]}" "$@" </dev/null
}

# quietly LOG COMMAND...: on a terminal the command shows its own progress; elsewhere only what it says when it fails.
quietly() {
	local log=$1
	shift
	if [ -t 2 ] && [ -t 1 ]; then
		"$@" >&2
	else
		"$@" >"$log" 2>&1 </dev/null || { tail -40 "$log" >&2; return 1; }
	fi
}

# build_in DIR TARGET [CMAKE ARGUMENT...]: configures DIR when it is new or was configured otherwise, and builds.
build_in() {
	local dir=$1 target=$2 begin=$SECONDS
	shift 2
	local wanted
	wanted=$(printf '%s\n' "$root" "$@")
	mkdir -p "$dir"
	if [ ! -e "$dir/build.ninja" ] || { [ $# -gt 0 ] && [ "$wanted" != "$(cat "$dir/.configured" 2>/dev/null)" ]; }; then
		say "configuring ${dir#"$root"/}"
		quietly "$dir/configure.log" cmake -S "$root" -B "$dir" -G Ninja "$@" || return 1
		printf '%s\n' "$wanted" >"$dir/.configured"
	fi
	say "building what changed in ${dir#"$root"/}"
	quietly "$dir/build.log" ninja -C "$dir" "$target" || return 1
	[ $((SECONDS - begin)) -lt 2 ] || say "built in $((SECONDS - begin)) s"
}

# at_end COMMAND...: runs when the script ends, however it ends, the latest first. Nothing that we start stays.
at_end_commands=()
at_end() { at_end_commands=("$(printf '%q ' "$@")" "${at_end_commands[@]}"); }
run_at_end() {
	local status=$? command
	trap '' INT TERM HUP
	for command in "${at_end_commands[@]}"; do eval "$command" || true; done
	exit $status
}
trap run_at_end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# Whether a process is there and has not ended; a zombie has.
alive() {
	local stat
	{ read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
	stat=${stat##*) }
	[ "${stat%% *}" != Z ]
}

# end_process PID [SECONDS]: SIGTERM to a job of ours, SIGKILL when it has not ended by then; then whatever is left of its
# process group (each job has its own by `set -m`) goes too.
end_process() {
	local pid=$1 limit=$((SECONDS + ${2:-10}))
	{ # the shell's own remarks on jobs that were ended are nobody's news
		alive "$pid" && "${as_root[@]}" kill "$pid"
		while alive "$pid"; do
			[ $SECONDS -lt $limit ] || "${as_root[@]}" kill -9 "$pid"
			sleep 0.05
		done
		"${as_root[@]}" kill -9 -- "-$pid"
		wait "$pid" || true
	} 2>/dev/null
}
