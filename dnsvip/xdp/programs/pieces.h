/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The straight way of fragments of IPv6 that are dropped: later ones whose first is not known, and first ones of TCP and
 * UDP to a forged address. It changes nothing but counters; all other fragments are LEFT. */
#pragma once
#include "fragments.h"
#include "opening.h"

/* A fragment without tags, whose only extension header is its own; aligned as `struct straight`. */
struct piece {
	__u16 before;
	struct ethhdr link;
	struct ip6_head ip;
	struct extension_head fragment;
};

/* The head of such a frame, or NULL. */
static __always_inline struct piece *piece_bytes(struct xdp_md *ctx)
{
	struct piece *piece = (void *)(long)ctx->data - offsetof(struct piece, link);

	return (void *)(piece + 1) > (void *)(long)ctx->data_end || piece->ip.next != IPPROTO_FRAGMENT ? NULL : piece;
}

/* Whether a later fragment with a key belongs to none that has been forwarded. */
static __always_inline int has_no_first(struct fragment_key *key, const struct piece *piece, __u32 now)
{
	__builtin_memcpy(key->source, piece->ip.source, 32);
	key->identity = piece->fragment.identity;
	key->protocol = 0;
	key->version = 6;
	key->zero = 0;
	return !known_first(key, now);
}

/* Whether the flow of work.packet, a first fragment, goes to a forged address of a cluster and is not known. Of a flow or
 * an address that is probably known the tag is left to the rest of the program. */
static __always_inline int goes_nowhere(struct work *w, const struct site *site, const struct config *c,
					const struct cluster *cluster)
{
	struct lanes *l = lanes_now();
	const struct epoch *e;
	struct wide address;
	__u32 *filter;
	__u64 hash;

	if (!l)
		return 0;
	hash = address_hash(l, &w->packet.key);
	w->index_hash = index_hash(l, &w->packet.key);
	filter = filter_word(l, sweeps_of(l->phase), hash);
	if (!filter || ((may_be_known(filter, w->index_hash) || may_be_known(filter, hash)) && !is_crowded(*filter)))
		return 0;
	address = wide_of(w->packet.key.destination);
	e = &cluster->epochs[slot_in(cluster, address)];
	if (!e->present || is_proven(cluster, address) ||
	    (address.hi == cluster->plain.hi && address.lo == cluster->plain.lo) || !has_wrong_tag(cluster, e, address))
		return 0;
	return !(may_stray(site, c, *filter) && has_flow(w, site, filter));
}

/* Whether a first fragment has a whole header that `parse` accepts of TCP or UDP; its ports and protocol into a key. */
static __always_inline int has_ports(struct xdp_md *ctx, struct flow_key *key, const struct piece *piece, __u32 length)
{
	const struct tcp_head *tcp = (void *)(piece + 1);
	const struct udp_head *udp = (void *)(piece + 1);
	__u32 flags;

	if (length < sizeof(piece->fragment) + sizeof(*tcp) || (void *)(tcp + 1) > (void *)(long)ctx->data_end)
		return 0;
	key->source_port = tcp->source_port;
	key->destination_port = tcp->destination_port;
	key->protocol = piece->fragment.next;
	flags = tcp->flags & 63;
	if (key->protocol == IPPROTO_TCP)
		return flags && !(flags & SYN && flags & (FIN | RST));
	return key->protocol == IPPROTO_UDP && bpf_ntohs(udp->length) >= sizeof(*udp);
}

/* Drops a fragment; an XDP action, or LEFT. */
static __noinline int drop_piece(struct xdp_md *ctx, struct work *w, const struct site *site, const struct config *c)
{
	struct piece *piece = piece_bytes(ctx);
	struct flow_key *key = &w->packet.key;
	__u32 number = w->cluster, length;

	if (!piece || number >= MAX_CLUSTERS)
		return LEFT;
	length = bpf_ntohs(piece->ip.length);
	if ((piece->link.h_proto ^ bpf_htons(ETH_P_IPV6)) |
	    ((piece->ip.word & bpf_htonl(0xf0000000)) ^ bpf_htonl(6u << 28)) | (length < sizeof(piece->fragment)) |
	    (length + sizeof(piece->link) + sizeof(piece->ip) > frame_length(ctx)) | !!c->drops)
		return LEFT;
	__builtin_memcpy(key->source, piece->ip.source, 32);
	key->version = 6;
	key->zero = 0;
	if (!has_prefix_of(&site->clusters[number], key) || is_nobodys(&site->clusters[number], key))
		return LEFT;
	if (piece->fragment.word & bpf_htons(0xfff8))
		return has_no_first(&w->packet.fragment, piece, w->seconds) ?
			       drop_straight(ctx, c, number, REASON_FRAGMENT_WITHOUT_FIRST) : LEFT;
	if (!(piece->fragment.word & bpf_htons(1)) || site->clusters[number].fallback_tier < MAX_TIERS ||
	    !has_ports(ctx, key, piece, length) || !goes_nowhere(w, site, c, &site->clusters[number]))
		return LEFT;
	return drop_straight(ctx, c, number, REASON_BAD_TAG);
}
