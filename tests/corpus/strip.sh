#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# strip.sh debugdata|debuglink PROGRAM OUTPUT: the program without its symbols, which are then in .gnu_debugdata within it
# (the "MiniDebugInfo" of Fedora: an xz-compressed ELF file), or in OUTPUT.debug, which .gnu_debuglink names.
set -eu
kind=$1 program=$2 output=$3
case $kind in
debugdata)
	nm -D "$program" --format=posix --defined-only | awk '{ print $1 }' | sort >"$output.dynamic"
	nm "$program" --format=posix --defined-only | awk '$2 ~ /^[Tt]$/ { print $1 }' | sort >"$output.functions"
	comm -13 "$output.dynamic" "$output.functions" >"$output.keep"
	objcopy --only-keep-debug "$program" "$output.debug"
	objcopy -S --remove-section .gdb_index --remove-section .comment --keep-symbols="$output.keep" "$output.debug" "$output.mini"
	xz -f -k "$output.mini"
	strip -o "$output" "$program"
	objcopy --add-section .gnu_debugdata="$output.mini.xz" "$output"
	rm -f "$output.dynamic" "$output.functions" "$output.keep" "$output.debug" "$output.mini" "$output.mini.xz"
	;;
debuglink)
	objcopy --only-keep-debug "$program" "$output.debug"
	strip -o "$output" "$program"
	(cd "$(dirname "$output")" && objcopy --add-gnu-debuglink="$(basename "$output").debug" "$output")
	;;
esac
