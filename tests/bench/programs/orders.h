/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What a program is asked to do: the one `struct order` that whoever runs it writes, and reads back. Each program has an
 * order of its own, declared before it includes this. */
#pragma once
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct order);
} orders SEC(".maps");

/* The order; the verifier wants its callers to look whether there is one. */
static __always_inline struct order *the_order(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&orders, &zero);
}
