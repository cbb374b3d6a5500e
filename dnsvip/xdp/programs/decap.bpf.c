/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* On a server under forward = "encap": removes the outer header before the kernel sees the packet, whose destination
 * then is the VIP, a local address of the server. Only packets to an address in map `own` with a source in the
 * dispatchers' prefix are unwrapped; all others pass unchanged. ECN follows RFC 6040 section 4.2. */
#include "checksum.h"
#include "parse.h"

#define ECN 3
#define CONGESTED 3

enum decap_outcome {
	DECAP_UNWRAPPED,
	DECAP_PASSED,
	DECAP_MALFORMED, /* no whole header inside */
	DECAP_ECN,       /* congestion experienced, and the inner packet's sender does not support ECN */
	DECAPS
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, DECAPS);
	__type(key, __u32);
	__type(value, __u64);
} decapsulated SEC(".maps");

struct own_key {
	__be64 address[2];
};

/* The server's addresses that dispatchers send to, with the upper half of their outer source addresses. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, struct own_key);
	__type(value, __be64);
} own SEC(".maps");

static __always_inline int done(__u32 outcome)
{
	__u64 *count = bpf_map_lookup_elem(&decapsulated, &outcome);

	if (count)
		(*count)++;
	return outcome == DECAP_UNWRAPPED || outcome == DECAP_PASSED ? XDP_PASS : XDP_DROP;
}

/* Copies a congestion mark from the outer header to the inner one; 0 where its sender does not support ECN. */
static __always_inline int take_congestion6(struct ip6_head *ip)
{
	if (!(bpf_ntohl(ip->word) >> 20 & ECN))
		return 0;
	ip->word |= bpf_htonl(CONGESTED << 20);
	return 1;
}

static __always_inline int take_congestion4(struct ip4_head *ip)
{
	__u8 old = ip->tos;

	if (!(old & ECN))
		return 0;
	ip->tos = old | CONGESTED;
	ip->check = bpf_htons(adjusted(bpf_ntohs(ip->check), (__s32)old - (__s32)ip->tos));
	return 1;
}

/* Whether the outer header comes from one of our dispatchers. */
static __always_inline int is_ours(const struct ip6_head *outer)
{
	struct own_key key = {{outer->destination[0], outer->destination[1]}};
	__be64 *source;

	if (outer->next != IPPROTO_IPV6 && outer->next != IPPROTO_IPIP)
		return 0;
	source = bpf_map_lookup_elem(&own, &key);
	return source && *source == outer->source[0];
}

SEC("xdp")
int decap(struct xdp_md *ctx)
{
	struct packet p = {};
	struct ip6_head *outer;
	__u8 link[ETH_HLEN + 8];
	__u32 type = parse_ethernet(ctx, &p), at = p.network, inner_size;
	int congested, six;
	__be16 *kind;
	void *inner;

	if (type != ETH_P_IPV6)
		return done(DECAP_PASSED);
	outer = bytes_at(ctx, at, sizeof(*outer));
	if (!outer || bpf_ntohl(outer->word) >> 28 != 6 || !is_ours(outer))
		return done(DECAP_PASSED);
	six = outer->next == IPPROTO_IPV6;
	congested = (bpf_ntohl(outer->word) >> 20 & ECN) == CONGESTED;
	inner_size = six ? sizeof(struct ip6_head) : sizeof(struct ip4_head);
	if (bpf_ntohs(outer->length) < inner_size)
		return done(DECAP_MALFORMED);
	if (six) {
		inner = bytes_at(ctx, at + sizeof(*outer), sizeof(struct ip6_head));
		if (!inner || *(__u8 *)inner >> 4 != 6)
			return done(DECAP_MALFORMED);
		if (congested && !take_congestion6(inner))
			return done(DECAP_ECN);
	} else {
		inner = bytes_at(ctx, at + sizeof(*outer), sizeof(struct ip4_head));
		if (!inner || *(__u8 *)inner >> 4 != 4)
			return done(DECAP_MALFORMED);
		if (congested && !take_congestion4(inner))
			return done(DECAP_ECN);
	}
	if (at < ETH_HLEN || at > sizeof(link) || bpf_xdp_load_bytes(ctx, 0, link, at))
		return done(DECAP_MALFORMED);
	if (bpf_xdp_adjust_head(ctx, sizeof(*outer)) || bpf_xdp_store_bytes(ctx, 0, link, at))
		return done(DECAP_MALFORMED);
	kind = bytes_at(ctx, at - sizeof(*kind), sizeof(*kind));
	if (kind)
		*kind = bpf_htons(six ? ETH_P_IPV6 : ETH_P_IP);
	return done(DECAP_UNWRAPPED);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
