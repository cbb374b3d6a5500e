/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Stands for whoever asked: drops answers to the port that questions of a bench come from, and passes all else. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define ASKING 4053 /* as `packet` in tests/dns/io/xdp/kernel.py */

struct head {
	struct ethhdr ethernet;
	struct iphdr ip;
	struct udphdr udp;
} __attribute__((packed));

SEC("xdp")
int swallow(struct xdp_md *ctx)
{
	struct head *h = (void *)(long)ctx->data;

	if ((void *)(h + 1) > (void *)(long)ctx->data_end || h->ethernet.h_proto != bpf_htons(ETH_P_IP) ||
	    h->ip.protocol != IPPROTO_UDP || h->udp.dest != bpf_htons(ASKING))
		return XDP_PASS;
	return XDP_DROP;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
