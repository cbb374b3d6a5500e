/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Stands for whoever asked: drops answers to the port that questions of a bench come from, and passes all else. */
#include "datagram.h"

#define ASKING 4053 /* as `packet` in tests/dns/io/xdp/kernel.py */

SEC("xdp")
int swallow(struct xdp_md *ctx)
{
	struct head *h = (void *)(long)ctx->data;

	if (!is_datagram(h, ctx) || h->udp.dest != bpf_htons(ASKING))
		return XDP_PASS;
	return XDP_DROP;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
