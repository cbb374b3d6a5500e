/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The head of a frame with a UDP packet over IPv4. */
#pragma once
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct head {
	struct ethhdr ethernet;
	struct iphdr ip;
	struct udphdr udp;
} __attribute__((packed));

static __always_inline int is_datagram(const struct head *h, const struct xdp_md *ctx)
{
	return (void *)(h + 1) <= (void *)(long)ctx->data_end && h->ethernet.h_proto == bpf_htons(ETH_P_IP) &&
	       h->ip.protocol == IPPROTO_UDP;
}
