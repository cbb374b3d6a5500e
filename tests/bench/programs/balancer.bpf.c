/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* A stand-in for a balancer on the kernel's LRU map, which the dispatcher is compared with on every machine: parse, one
 * look-up, count, encapsulate, send. It verifies nothing, ages nothing, knows no tiers and no fragments, and only IPv6
 * over Ethernet without tags. */
#include "../../../dnsvip/xdp/programs/frame.h"

#define SERVERS 64

struct key {
	__be64 source[2];
	__be64 destination[2];
	__be32 ports;
	__u32 protocol;
};

struct server {
	__be64 address[2];
	__u8 link[12];
	__u32 unused;
};

struct count {
	__u64 packets;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536); /* resized */
	__type(key, struct key);
	__type(value, __u32);
} connections SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SERVERS);
	__type(key, __u32);
	__type(value, struct server);
} servers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SERVERS);
	__type(key, __u32);
	__type(value, struct count);
} counts SEC(".maps");

static __always_inline __u32 chosen(const struct key *key)
{
	__u64 hash = (key->source[0] ^ key->source[1] ^ key->destination[1] ^ key->ports) * 0x9e3779b97f4a7c15ULL;

	return hash >> 58;
}

/* The balancer; sends the packet in another IPv6 header. */
SEC("xdp")
int balance(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *link = data;
	struct ip6_head *ip = (void *)(link + 1), *outer;
	__be32 *ports = (void *)(ip + 1);
	struct key key = {};
	__u32 number, *known;
	struct server *server;
	struct count *count;
	__u32 word;
	__u16 length;

	if ((void *)(ip + 1) + 20 > end || link->h_proto != bpf_htons(ETH_P_IPV6))
		return XDP_PASS;
	if (ip->next != IPPROTO_TCP || ip->hops <= 1)
		return XDP_PASS;
	__builtin_memcpy(key.source, ip->source, 32);
	key.ports = *ports;
	key.protocol = ip->next;
	known = bpf_map_lookup_elem(&connections, &key);
	if (known) {
		number = *known;
	} else {
		number = chosen(&key);
		bpf_map_update_elem(&connections, &key, &number, BPF_ANY);
	}
	server = bpf_map_lookup_elem(&servers, &number);
	count = bpf_map_lookup_elem(&counts, &number);
	if (!server || !count)
		return XDP_DROP;
	count->packets++;
	count->bytes += end - data;
	word = ip->word;
	length = bpf_ntohs(ip->length) + sizeof(*ip);
	if (bpf_xdp_adjust_head(ctx, -(int)sizeof(*outer)))
		return XDP_DROP;
	link = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	outer = (void *)(link + 1);
	if ((void *)(outer + 1) > end)
		return XDP_DROP;
	__builtin_memcpy(link, server->link, 12);
	link->h_proto = bpf_htons(ETH_P_IPV6);
	outer->word = word;
	outer->length = bpf_htons(length);
	outer->next = IPPROTO_IPV6;
	outer->hops = 64;
	outer->source[0] = key.source[0];
	outer->source[1] = key.source[1];
	outer->destination[0] = server->address[0];
	outer->destination[1] = server->address[1];
	return XDP_TX;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
