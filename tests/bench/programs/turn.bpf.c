/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Sends UDP packets over IPv4 back as they are, from where they went to: what a packet costs that no work is done for. */
#include "datagram.h"

SEC("xdp")
int turn(struct xdp_md *ctx)
{
	struct head *h = (void *)(long)ctx->data;
	__u8 mac[ETH_ALEN];
	__be32 address;
	__be16 port;

	if (!is_datagram(h, ctx))
		return XDP_PASS;
	__builtin_memcpy(mac, h->ethernet.h_dest, ETH_ALEN);
	__builtin_memcpy(h->ethernet.h_dest, h->ethernet.h_source, ETH_ALEN);
	__builtin_memcpy(h->ethernet.h_source, mac, ETH_ALEN);
	address = h->ip.daddr;
	h->ip.daddr = h->ip.saddr;
	h->ip.saddr = address;
	port = h->udp.dest;
	h->udp.dest = h->udp.source;
	h->udp.source = port;
	return XDP_TX;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
