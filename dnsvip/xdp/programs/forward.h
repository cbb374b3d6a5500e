/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The last steps before a packet leaves: hop limit, DSCP, outer header, link addresses. */
#pragma once
#include "nat.h"

#define HOP_SECOND NANOSECONDS    /* how long a next hop is valid */
#define HOP_RETRY (NANOSECONDS / 10) /* when a failed look-up is retried */
#define OUTER_HOPS 64
#define MAX_LINK 22 /* Ethernet and two VLAN tags */

/* Decrements the hop limit. Returns 0, with nothing changed, where that would be its end. */
static __always_inline int decrement_hop_limit(struct xdp_md *ctx, const struct packet *p)
{
	if (p->version == 6) {
		struct ip6_head *ip = bytes_at(ctx, p->network, sizeof(*ip));

		if (!ip || ip->hops <= 1)
			return 0;
		ip->hops--;
	} else {
		struct ip4_head *ip = bytes_at(ctx, p->network, sizeof(*ip));

		if (!ip || ip->ttl <= 1)
			return 0;
		ip->ttl--;
		ip->check = bpf_htons(adjusted(bpf_ntohs(ip->check), 256));
	}
	return 1;
}

static __always_inline void increment_hop_limit(struct xdp_md *ctx, const struct packet *p)
{
	if (p->version == 6) {
		struct ip6_head *ip = bytes_at(ctx, p->network, sizeof(*ip));

		if (ip)
			ip->hops++;
	} else {
		struct ip4_head *ip = bytes_at(ctx, p->network, sizeof(*ip));

		if (!ip)
			return;
		ip->ttl++;
		ip->check = bpf_htons(adjusted(bpf_ntohs(ip->check), -256));
	}
}

/* Sets DSCP (RFC 2474); ECN stays (RFC 3168). */
static __always_inline void set_dscp(struct xdp_md *ctx, const struct packet *p, __u8 dscp)
{
	if (p->version == 6) {
		struct ip6_head *ip = bytes_at(ctx, p->network, sizeof(*ip));

		if (ip)
			ip->word = (ip->word & bpf_htonl(0xf03fffff)) | bpf_htonl((__u32)dscp << 22);
	} else {
		struct ip4_head *ip = bytes_at(ctx, p->network, sizeof(*ip));
		__u8 old;

		if (!ip)
			return;
		old = ip->tos;
		ip->tos = dscp << 2 | (old & 3);
		ip->check = bpf_htons(adjusted(bpf_ntohs(ip->check), (__s32)old - (__s32)ip->tos));
	}
}

/* As `insert_space`, of a frame without tags: without two calls. */
static __always_inline int insert_space_untagged(struct xdp_md *ctx, __u32 size)
{
	struct ethhdr *link = bytes_at(ctx, 0, sizeof(*link)), before;

	if (!link)
		return 0;
	before = *link;
	if (bpf_xdp_adjust_head(ctx, -(int)size))
		return 0;
	link = bytes_at(ctx, 0, sizeof(*link));
	if (!link)
		return 0;
	*link = before;
	return 1;
}

/* Inserts `size` bytes between the link header and the IP header. Returns 0 where there is no headroom. */
static __always_inline int insert_space(struct xdp_md *ctx, const struct packet *p, __u32 size)
{
	__u8 link[MAX_LINK];
	__u32 length = p->network;

	if (!p->tagged)
		return insert_space_untagged(ctx, size);
	if (length < ETH_HLEN || length > MAX_LINK || bpf_xdp_load_bytes(ctx, 0, link, length))
		return 0;
	if (bpf_xdp_adjust_head(ctx, -(int)size))
		return 0;
	return !bpf_xdp_store_bytes(ctx, 0, link, length);
}

/* IPv6 in IPv6 or IPv4 in IPv6 (RFC 2473), as dispatcher/egress/encap.py. Returns 0 where there is no headroom. */
__noinline int encapsulate(struct xdp_md *ctx)
{
	struct site *site = current_site();
	struct work *w = work();
	struct ip6_head *outer;
	struct packet *p;
	__u32 word, class, number;
	__be16 *type;

	if (!site || !w)
		return 0;
	p = &w->packet;
	number = w->verdict.server;
	if (number >= MAX_SERVERS || !insert_space(ctx, p, sizeof(*outer)))
		return 0;
	outer = bytes_at(ctx, p->network, sizeof(*outer) + sizeof(struct ip4_head));
	type = bytes_at(ctx, p->network - 2, 2);
	if (!outer || !type)
		return 0;
	*type = bpf_htons(ETH_P_IPV6);
	if (p->version == 6)
		class = bpf_ntohl(outer[1].word) >> 20 & 0xff;
	else
		class = ((struct ip4_head *)&outer[1])->tos;
	if (w->verdict.dscp != NO_DSCP)
		class = w->verdict.dscp << 2 | (class & 3);
	word = 6u << 28 | class << 20 | (w->verdict.hash & 0xfffff);
	outer->word = bpf_htonl(word);
	outer->length = bpf_htons(p->end - p->network);
	outer->next = p->version == 6 ? IPPROTO_IPV6 : IPPROTO_IPIP;
	outer->hops = OUTER_HOPS;
	outer->source[0] = site->encap_source;
	outer->source[1] = bpf_cpu_to_be64(w->verdict.hash);
	outer->destination[0] = site->servers[number].address[0];
	outer->destination[1] = site->servers[number].address[1];
	return 1;
}

/* Looks up the route to an address. Returns 0 with the hop filled in, or the error of bpf_fib_lookup. */
static __always_inline long look_up_hop(struct xdp_md *ctx, struct hop *hop, const __be64 *address, __u32 version)
{
	struct bpf_fib_lookup way = {};
	long result;

	way.ifindex = ctx->ingress_ifindex;
	if (version == 6) {
		way.family = AF_INET6;
		__builtin_memcpy(way.ipv6_dst, address, 16);
	} else {
		way.family = AF_INET;
		way.ipv4_dst = address[1] >> 32;
	}
	result = bpf_fib_lookup(ctx, &way, sizeof(way), 0);
	if (result)
		return result;
	hop->interface = way.ifindex;
	hop->back = way.ifindex == ctx->ingress_ifindex;
	__builtin_memcpy(hop->destination, way.dmac, 6);
	__builtin_memcpy(hop->source, way.smac, 6);
	hop->known = 1;
	return 0;
}

/* Refreshes the next hop of a server; the previous one stays in use where the look-up fails. */
__noinline int refresh_hop(struct xdp_md *ctx, __u32 number)
{
	struct site *site = current_site();
	struct work *w = work();
	struct hop *hop = bpf_map_lookup_elem(&hops, &number);

	if (!site || !w || !hop || number >= MAX_SERVERS)
		return 0;
	if (look_up_hop(ctx, hop, site->servers[number].address, site->servers[number].version)) {
		count_side(SIDE_NO_NEXT_HOP);
		hop->until = w->now + HOP_RETRY;
	} else {
		hop->until = w->now + HOP_SECOND;
	}
	return 0;
}

/* Writes the link addresses and sends; `link`: where the frame begins. */
static __always_inline int send_from(struct xdp_md *ctx, struct ethhdr *link, const struct hop *hop)
{
	/* Both addresses, in two words. */
	__builtin_memcpy(__builtin_assume_aligned(link, 8),
			 __builtin_assume_aligned((const void *)hop + offsetof(struct hop, destination), 8), 12);
	if (hop->back)
		return XDP_TX;
	return bpf_redirect(hop->interface, 0);
}

/* Writes the link addresses and sends. */
static __always_inline int send(struct xdp_md *ctx, const struct hop *hop)
{
	struct ethhdr *link = bytes_at(ctx, 0, sizeof(*link));

	return link ? send_from(ctx, link, hop) : XDP_DROP;
}

/* The destination in the packet's header; 0 where it cannot be read. */
static __always_inline int read_destination(struct xdp_md *ctx, const struct packet *p, __be64 *address)
{
	if (p->version == 6) {
		struct ip6_head *ip = bytes_at(ctx, p->network, sizeof(*ip));

		if (!ip)
			return 0;
		address[0] = ip->destination[0];
		address[1] = ip->destination[1];
	} else {
		struct ip4_head *ip = bytes_at(ctx, p->network, sizeof(*ip));

		if (!ip)
			return 0;
		address[0] = 0;
		address[1] = (__u64)ip->destination << 32;
	}
	return 1;
}

/* Sends a reply under nat to its own destination; without a known neighbour the kernel forwards it. */
__noinline int send_on(struct xdp_md *ctx)
{
	struct work *w = work();
	struct hop hop = {};
	__be64 address[2];

	if (!w || !read_destination(ctx, &w->packet, address))
		return XDP_DROP;
	if (!look_up_hop(ctx, &hop, address, w->packet.version))
		return send(ctx, &hop);
	increment_hop_limit(ctx, &w->packet); /* the kernel decrements it */
	count_side(SIDE_NO_NEXT_HOP);
	return XDP_PASS;
}
