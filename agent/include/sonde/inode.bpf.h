/* SPDX-License-Identifier: GPL-2.0-only */
/* Numbers of inodes and files as programs know them. */
#ifndef SONDE_INODE_BPF_H
#define SONDE_INODE_BPF_H

#include "sonde/probe.bpf.h"

#define SONDE_S_IFMT   0170000 /* include/uapi/linux/stat.h */
#define SONDE_S_IFIFO  0010000
#define SONDE_S_IFCHR  0020000
#define SONDE_S_IFDIR  0040000
#define SONDE_S_IFREG  0100000
#define SONDE_S_IFSOCK 0140000

#define SONDE_MAJOR(dev) ((dev) >> 20)
#define SONDE_MINOR(dev) ((dev)&0xfffff)

/* Kernel device numbers are major:12 minor:20; stat(2) shows new_encode_dev(). Source: include/linux/kdev_t.h. */
sonde_inline __u64 sonde_device_number(__u32 dev)
{
	__u32 major = SONDE_MAJOR(dev), minor = SONDE_MINOR(dev);

	return (minor & 0xff) | (major << 8) | ((minor & ~0xffu) << 12);
}

/* Major numbers of the kernel's terminals: tty, console and the ptys of either kind. Source: include/uapi/linux/major.h. */
sonde_inline bool sonde_is_terminal(__u32 dev)
{
	__u32 major = SONDE_MAJOR(dev);

	return major == 4 || major == 5 || (major >= 136 && major <= 143);
}

/* Devices that programs write to all the time and that keep nothing: null, zero, full, random, urandom, terminals. */
sonde_inline bool sonde_is_sink(__u32 dev)
{
	__u32 minor = SONDE_MINOR(dev);

	if (SONDE_MAJOR(dev) == 1)
		return minor == 3 || minor == 5 || (minor >= 7 && minor <= 9);
	return sonde_is_terminal(dev);
}

#endif
