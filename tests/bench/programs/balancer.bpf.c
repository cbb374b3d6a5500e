/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* A stand-in for a balancer on the kernel's LRU map, which the dispatcher is compared with on every machine: parse (IPv6 and
 * IPv4, TCP and UDP, over Ethernet), one look-up of the flow, count by service and by server, encapsulate in IPv6 with an
 * outer source and flow label of the flow's own, send. It verifies nothing, ages nothing, and knows no tiers, fragments, tags
 * and options. Every step is written as the dispatcher's are: what is copied is aligned, what is unusual is out of the way. */
#include "../../../dnsvip/xdp/programs/frame.h"

#define SERVERS 64
#define SERVICES 64
#define STEP 0x9e3779b97f4a7c15ULL

struct key {
	__be64 source[2]; /* IPv4: in the last four bytes */
	__be64 destination[2];
	__be32 ports;
	__u32 protocol;
};

struct connection {
	__u32 server;
	__u32 service;
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

/* What is written before a packet. Two bytes before the frame are part of it, so that its addresses are aligned. */
struct outer {
	__u16 before;
	__be16 link[7];
	struct ip6_head ip;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536); /* resized */
	__type(key, struct key);
	__type(value, struct connection);
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

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SERVICES);
	__type(key, __u32);
	__type(value, struct count);
} services SEC(".maps");

/* A hash of a flow: what selects its server, and tells its outer headers from those of other flows. */
static __always_inline __u64 hash_of(const struct key *key)
{
	__u64 sum = key->source[0] ^ key->source[1] ^ key->destination[1] ^ key->ports;

	return (sum ^ sum >> 32) * STEP;
}

static __always_inline void add(struct count *count, __u32 bytes)
{
	count->packets++;
	count->bytes += bytes;
}

/* The flow of a packet, its class and its length; 0 where it is none that is balanced. */
static __always_inline int read_flow(void *data, void *end, struct key *key, __u32 *class, __u32 *length)
{
	struct outer *head = data - sizeof(head->before);
	struct ip4_head *ip4 = (void *)&head->ip;
	__be32 *ports;

	if ((void *)(ip4 + 1) > end)
		return 0;
	if (head->link[6] == bpf_htons(ETH_P_IPV6)) {
		if ((void *)(&head->ip + 1) > end || head->ip.hops <= 1)
			return 0;
		__builtin_memcpy(key->source, head->ip.source, 32);
		key->protocol = head->ip.next;
		*class = bpf_ntohl(head->ip.word) >> 20 & 0xff;
		*length = bpf_ntohs(head->ip.length) + sizeof(head->ip);
		ports = (void *)(&head->ip + 1);
	} else if (head->link[6] == bpf_htons(ETH_P_IP)) {
		if (ip4->version_length != 0x45 || ip4->ttl <= 1 || ip4->piece & bpf_htons(0x3fff))
			return 0;
		key->source[1] = (__u64)ip4->source << 32;
		key->destination[1] = (__u64)ip4->destination << 32;
		key->protocol = ip4->protocol;
		*class = ip4->tos;
		*length = bpf_ntohs(ip4->length);
		ports = (void *)(ip4 + 1);
	} else {
		return 0;
	}
	if ((void *)(ports + 2) > end || (key->protocol != IPPROTO_TCP && key->protocol != IPPROTO_UDP) ||
	    (key->protocol == IPPROTO_TCP && (void *)(ports + 5) > end))
		return 0;
	key->ports = *ports;
	return 1;
}

/* The balancer; sends the packet in another IPv6 header. */
SEC("xdp")
int balance(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct connection chosen = {}, *known;
	struct count *count, *service;
	struct server *server;
	struct outer *outer;
	__u32 class, length;
	struct key key = {};
	__u64 hash;

	if (!read_flow(data, end, &key, &class, &length))
		return XDP_PASS;
	hash = hash_of(&key);
	known = bpf_map_lookup_elem(&connections, &key);
	if (known) {
		chosen = *known;
	} else {
		chosen.server = hash >> 58;
		bpf_map_update_elem(&connections, &key, &chosen, BPF_ANY);
	}
	server = bpf_map_lookup_elem(&servers, &chosen.server);
	count = bpf_map_lookup_elem(&counts, &chosen.server);
	service = bpf_map_lookup_elem(&services, &chosen.service);
	if (!server || !count || !service)
		return XDP_DROP;
	add(count, length);
	add(service, length);
	if (bpf_xdp_adjust_head(ctx, -(int)sizeof(outer->ip)))
		return XDP_DROP;
	outer = (void *)(long)ctx->data - sizeof(outer->before);
	if ((void *)(outer + 1) > (void *)(long)ctx->data_end)
		return XDP_DROP;
	__builtin_memcpy(__builtin_assume_aligned(outer->link, 8), __builtin_assume_aligned(server->link, 8), 12);
	outer->link[6] = bpf_htons(ETH_P_IPV6);
	outer->ip.word = bpf_htonl(6u << 28 | class << 20 | hash >> 44);
	outer->ip.length = bpf_htons(length);
	outer->ip.next = key.source[0] ? IPPROTO_IPV6 : IPPROTO_IPIP;
	outer->ip.hops = 64;
	outer->ip.source[0] = bpf_cpu_to_be64(0x0100000000000000); /* RFC 6666 */
	outer->ip.source[1] = hash;
	outer->ip.destination[0] = server->address[0];
	outer->ip.destination[1] = server->address[1];
	return XDP_TX;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
