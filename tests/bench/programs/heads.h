/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The heads of prepared packets, which a program writes into frames in turn. */
#pragma once
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define HEAD 96 /* bytes: all that a measured program may have changed */

struct head {
	__u64 words[HEAD / 8];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 65536); /* resized */
	__type(key, __u32);
	__type(value, struct head);
} heads SEC(".maps");

/* Writes the next of `count` heads into a frame; 0 where it is too short. `number`: of that head. */
static __always_inline int write_head(struct xdp_md *ctx, __u32 *number, __u32 count)
{
	__u64 *data = (void *)(long)ctx->data;
	__u32 this = *number;
	struct head *head = bpf_map_lookup_elem(&heads, &this);
	int n;

	*number = this + 1 < count ? this + 1 : 0;
	if (!head || (void *)data + HEAD > (void *)(long)ctx->data_end)
		return 0;
	for (n = 0; n < HEAD / 8; n++)
		data[n] = head->words[n];
	return 1;
}
