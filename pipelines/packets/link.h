/* SPDX-License-Identifier: Apache-2.0 */
/* Link types as capture files number them. Source: https://www.tcpdump.org/linktypes.html */
#ifndef SONDE_LINK_H
#define SONDE_LINK_H

enum link_type {
	LINK_NULL = 0, /* 4 bytes: the address family, in the byte order of who wrote it */
	LINK_ETHERNET = 1,
	LINK_RAW_12 = 12, /* IP as it is; the number differs by system */
	LINK_RAW_14 = 14,
	LINK_RAW = 101,
	LINK_LOOP = 108, /* as LINK_NULL, in network order */
	LINK_LINUX_SLL = 113,
	LINK_IPV4 = 228,
	LINK_IPV6 = 229,
	LINK_LINUX_SLL2 = 276,
};

#endif
