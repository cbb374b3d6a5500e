/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Measures a program "hot": each repetition of a run puts the next packet in place of what the repetition before has left,
 * and goes on in the measured program. What this itself costs is that of a run with an empty program. */
#include "heads.h"

struct order {
	__u32 number;
	__u32 count; /* of heads */
	__u32 size;  /* of each frame */
	__u32 unused;
};

#include "orders.h"

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} measured SEC(".maps");

SEC("xdp")
int again(struct xdp_md *ctx)
{
	struct order *order = the_order();
	long more = (void *)(long)ctx->data_end - (void *)(long)ctx->data;

	asm volatile("" : "+r"(more)); /* else clang subtracts 32-bit halves of pointers, which the verifier forbids */
	if (!order || bpf_xdp_adjust_head(ctx, more - order->size) || !write_head(ctx, &order->number, order->count))
		return XDP_ABORTED;
	bpf_tail_call(ctx, &measured, 0);
	return XDP_ABORTED;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
