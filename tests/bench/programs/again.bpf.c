/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Measures a program "hot": each repetition of a run puts the next packet in place of what the repetition before has left,
 * and goes on in the measured program. What this itself costs is that of a run with an empty program. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define FRAMES 65536
#define HEAD 96 /* all that a program may have changed */

struct turn {
	__u32 number;
	__u32 count; /* of frames */
	__u32 size;  /* of each */
	__u32 unused;
};

struct head {
	__u64 words[HEAD / 8];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct turn);
} turns SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FRAMES);
	__type(key, __u32);
	__type(value, struct head);
} heads SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} measured SEC(".maps");

SEC("xdp")
int again(struct xdp_md *ctx)
{
	__u32 zero = 0, number;
	struct turn *turn = bpf_map_lookup_elem(&turns, &zero);
	struct head *head;
	__u64 *data;
	long more;
	int n;

	if (!turn)
		return XDP_ABORTED;
	number = turn->number;
	turn->number = number + 1 < turn->count ? number + 1 : 0;
	head = bpf_map_lookup_elem(&heads, &number);
	more = (void *)(long)ctx->data_end - (void *)(long)ctx->data;
	asm volatile("" : "+r"(more)); /* else clang subtracts 32-bit halves of pointers, which the verifier forbids */
	if (!head || bpf_xdp_adjust_head(ctx, more - turn->size))
		return XDP_ABORTED;
	data = (void *)(long)ctx->data;
	if ((void *)data + HEAD > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	for (n = 0; n < HEAD / 8; n++)
		data[n] = head->words[n];
	bpf_tail_call(ctx, &measured, 0);
	return XDP_ABORTED;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
