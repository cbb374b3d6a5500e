/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The ICMP errors sent in the name of the addressed VIP, as dnsvip/dispatcher/egress/icmp.py. */
#pragma once
#include "reset.h"
#include "token_bucket.h"

#define QUOTED6 (1280 - 48) /* RFC 4443 section 2.4 (c) */
#define QUOTED4 (576 - 28)  /* RFC 1812 section 4.3.2.3 */
#define DONT_FRAGMENT 0x4000

struct quote {
	__u8 bytes[QUOTED6 + 16];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct quote);
} quotes SEC(".maps");

struct icmp_answer {
	__u8 type;
	__u8 code;
	__u16 check;
	__be32 word;
};

/* Whether an error about a packet to one of our VIPs may be sent at all (RFC 4443 section 2.4 (e), RFC 1122 section
 * 3.2.2): its source must be a single host. */
static __always_inline int may_answer(struct xdp_md *ctx, const struct packet *p, __u8 reason)
{
	struct wide source = wide_of(p->key.source);
	struct ip4_head *ip;
	__u32 first;

	if (p->shape != SHAPE_FLOW)
		return 0;
	if (p->version == 6) /* neither ff00::/8 nor ::/96 */
		return source.hi >> 56 != 0xff && (source.hi || source.lo >> 32);
	first = source.lo >> 24 & 0xff;
	ip = bytes_at(ctx, p->network, sizeof(*ip));
	if (!ip || !first || first >= 224 || first == 127)
		return 0;
	return reason != REASON_TOO_BIG || bpf_ntohs(ip->piece) & DONT_FRAGMENT;
}

/* The sum over the quoted part of the packet, 0 on error; truncates the rest. */
static __always_inline int quote(struct xdp_md *ctx, const struct packet *p, __u32 size, __s64 *sum)
{
	__u32 key = 0, length = frame_length(ctx), padded = (size + 3) & ~3u;
	struct quote *q = bpf_map_lookup_elem(&quotes, &key);

	if (!q || size < 20 || size > QUOTED6)
		return 0;
	opaque(size);
	if (size < 1 || size > QUOTED6)
		return 0;
	if (bpf_xdp_load_bytes(ctx, p->network, q->bytes, size))
		return 0;
	q->bytes[size] = q->bytes[size + 1] = q->bytes[size + 2] = 0;
	opaque(padded);
	if (padded < 4 || padded > QUOTED6)
		return 0;
	*sum = bpf_csum_diff(NULL, 0, (void *)q->bytes, padded, 0);
	return length <= p->network + size || !bpf_xdp_adjust_tail(ctx, -(int)(length - p->network - size));
}

static __always_inline void swap_link_addresses(struct xdp_md *ctx)
{
	struct ethhdr *link = bytes_at(ctx, 0, sizeof(*link));
	__u8 address[6];

	if (!link)
		return;
	__builtin_memcpy(address, link->h_dest, 6);
	__builtin_memcpy(link->h_dest, link->h_source, 6);
	__builtin_memcpy(link->h_source, address, 6);
}

static __always_inline int answer6(struct xdp_md *ctx, struct work *w)
{
	struct packet *p = &w->packet;
	struct icmp_answer icmp = {.type = 1, .code = 3};
	struct pseudo6 pseudo = {};
	struct ip6_head *ip;
	__u32 size = p->end - p->network;
	__s64 sum;

	if (size > QUOTED6)
		size = QUOTED6;
	if (!quote(ctx, p, size, &sum) || !insert_space(ctx, p, sizeof(*ip) + sizeof(icmp)))
		return 0;
	if (w->verdict.reason == REASON_TOO_BIG) {
		icmp.type = 2;
		icmp.code = 0;
		icmp.word = bpf_htonl(w->verdict.mtu);
	} else if (w->verdict.reason == REASON_EXPIRED) {
		icmp.code = 1;
	}
	pseudo.source[0] = p->key.destination[0];
	pseudo.source[1] = p->key.destination[1];
	pseudo.destination[0] = p->key.source[0];
	pseudo.destination[1] = p->key.source[1];
	pseudo.length = bpf_htonl(size + sizeof(icmp));
	pseudo.next = bpf_htonl(IPPROTO_ICMPV6);
	sum = bpf_csum_diff(NULL, 0, (void *)&pseudo, sizeof(pseudo), (__u32)sum);
	sum = bpf_csum_diff(NULL, 0, (void *)&icmp, sizeof(icmp), (__u32)sum);
	icmp.check = folded(sum);
	ip = bytes_at(ctx, p->network, sizeof(*ip) + sizeof(icmp));
	if (!ip)
		return 0;
	ip->word = bpf_htonl(6u << 28);
	ip->length = bpf_htons(size + sizeof(icmp));
	ip->next = IPPROTO_ICMPV6;
	ip->hops = ANSWER_HOPS;
	__builtin_memcpy(ip->source, pseudo.source, 32);
	__builtin_memcpy(&ip[1], &icmp, sizeof(icmp));
	return 1;
}

static __always_inline int answer4(struct xdp_md *ctx, struct work *w)
{
	struct packet *p = &w->packet;
	struct icmp_answer icmp = {.type = 3, .code = 1};
	struct ip4_head head = {.version_length = 0x45, .ttl = ANSWER_HOPS, .protocol = IPPROTO_ICMP};
	struct ip4_head *ip;
	__u32 size = p->end - p->network;
	__s64 sum;

	if (size > QUOTED4)
		size = QUOTED4;
	if (!quote(ctx, p, size, &sum) || !insert_space(ctx, p, sizeof(*ip) + sizeof(icmp)))
		return 0;
	if (w->verdict.reason == REASON_TOO_BIG) {
		icmp.code = 4;
		icmp.word = bpf_htonl(w->verdict.mtu);
	}
	icmp.check = folded(bpf_csum_diff(NULL, 0, (void *)&icmp, sizeof(icmp), (__u32)sum));
	head.length = bpf_htons(size + sizeof(icmp) + sizeof(head));
	head.piece = bpf_htons(DONT_FRAGMENT);
	head.source = p->key.destination[1] >> 32;
	head.destination = p->key.source[1] >> 32;
	head.check = folded(bpf_csum_diff(NULL, 0, (void *)&head, sizeof(head), 0));
	ip = bytes_at(ctx, p->network, sizeof(*ip) + sizeof(icmp));
	if (!ip)
		return 0;
	*ip = head;
	__builtin_memcpy(&ip[1], &icmp, sizeof(icmp));
	return 1;
}

/* Turns the frame into the answer to it, sent back over the link it came from. An XDP action. */
__noinline int answer(struct xdp_md *ctx)
{
	struct work *w = work();
	int done;

	if (!w)
		return XDP_DROP;
	if (w->packet.version == 4)
		done = answer4(ctx, w);
	else if (w->verdict.reason == REASON_EXPIRED && w->packet.key.protocol == IPPROTO_TCP)
		done = reset6(ctx, w);
	else
		done = answer6(ctx, w);
	if (!done) {
		count_side(SIDE_NOT_SENT);
		return XDP_DROP;
	}
	swap_link_addresses(ctx);
	return XDP_TX;
}
