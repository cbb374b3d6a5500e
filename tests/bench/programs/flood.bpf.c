/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Sends packets by an interface as fast as it is run (BPF_F_TEST_XDP_LIVE_FRAMES): heads in turn, each with two random
 * bytes somewhere. */
#include "heads.h"

struct order {
	__u32 number;
	__u32 count; /* of heads */
	__u32 vary;  /* where the random bytes are; 0: nowhere */
	__u32 interface;
};

#include "orders.h"

SEC("xdp")
int flood(struct xdp_md *ctx)
{
	struct order *order = the_order();
	__u32 at;
	__u16 *varied;

	if (!order || !write_head(ctx, &order->number, order->count))
		return XDP_ABORTED;
	at = order->vary & 127;
	varied = (void *)(long)ctx->data + at;
	if (at && (void *)(varied + 1) <= (void *)(long)ctx->data_end)
		*varied = bpf_get_prandom_u32();
	return bpf_redirect(order->interface, 0);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
