// SPDX-License-Identifier: GPL-2.0-only
#include "sonde/probe.bpf.h"
#include "security_events.h"

char LICENSE[] SEC("license") = "GPL";
