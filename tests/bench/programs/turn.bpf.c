/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Sends UDP packets over IPv4 back as they are, from where they went to: what a packet costs that no work is done for. */
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

SEC("xdp")
int turn(struct xdp_md *ctx)
{
	struct head *h = (void *)(long)ctx->data;
	__u8 mac[ETH_ALEN];
	__be32 address;
	__be16 port;

	if ((void *)(h + 1) > (void *)(long)ctx->data_end || h->ethernet.h_proto != bpf_htons(ETH_P_IP) ||
	    h->ip.protocol != IPPROTO_UDP)
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
