/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* TCP resets to senders to an expired address, as dnsvip/dispatcher/egress/reset.py. */
#pragma once
#include "forward.h"

#define ANSWER_HOPS 64

struct pseudo6 {
	__be64 source[2];
	__be64 destination[2];
	__be32 length;
	__be32 next;
};

/* Whether a packet to a rejected address is answered: the address has expired, its cluster says so, and the packet is
 * neither a reset nor a fragment of a segment, whose length is not known. */
static __always_inline int is_answered_expired(const struct work *w, const struct site *site)
{
	const struct packet *p = &w->packet;
	__u32 cluster = w->address_verdict.cluster;

	if (w->address_verdict.reason != REASON_EXPIRED || cluster >= MAX_CLUSTERS ||
	    !site->clusters[cluster].resets_expired)
		return 0;
	return !(p->flags & RST) && !(p->key.protocol == IPPROTO_TCP && p->fragmented);
}

/* Turns a TCP segment into the reset about it (RFC 9293 section 3.10.7.1), but for the link header. A frame with a
 * segment is always as long as one with a reset. */
static __always_inline int reset6(struct xdp_md *ctx, struct work *w)
{
	struct packet *p = &w->packet;
	struct tcp_head *tcp = bytes_at(ctx, p->upper, sizeof(*tcp));
	struct tcp_head reset = {.offset = sizeof(reset) / 4 << 4, .flags = RST};
	struct pseudo6 pseudo = {};
	struct ip6_head *ip;
	__u32 length, spare;
	__s64 sum;

	if (!tcp)
		return 0;
	reset.source_port = p->key.destination_port;
	reset.destination_port = p->key.source_port;
	if (p->flags & ACK) {
		reset.sequence[0] = tcp->sequence[1];
	} else {
		length = p->end - p->upper - (tcp->offset >> 4) * 4 + !!(p->flags & SYN) + !!(p->flags & FIN);
		reset.sequence[1] = bpf_htonl(bpf_ntohl(tcp->sequence[0]) + length);
		reset.flags |= ACK;
	}
	spare = frame_length(ctx) - p->network - sizeof(*ip) - sizeof(reset);
	if (spare && bpf_xdp_adjust_tail(ctx, -(int)spare))
		return 0;
	pseudo.source[0] = p->key.destination[0];
	pseudo.source[1] = p->key.destination[1];
	pseudo.destination[0] = p->key.source[0];
	pseudo.destination[1] = p->key.source[1];
	pseudo.length = bpf_htonl(sizeof(reset));
	pseudo.next = bpf_htonl(IPPROTO_TCP);
	sum = bpf_csum_diff(NULL, 0, (void *)&pseudo, sizeof(pseudo), 0);
	sum = bpf_csum_diff(NULL, 0, (void *)&reset, sizeof(reset), (__u32)sum);
	reset.check = folded(sum);
	ip = bytes_at(ctx, p->network, sizeof(*ip) + sizeof(reset));
	if (!ip)
		return 0;
	ip->word = bpf_htonl(6u << 28);
	ip->length = bpf_htons(sizeof(reset));
	ip->next = IPPROTO_TCP;
	ip->hops = ANSWER_HOPS;
	__builtin_memcpy(ip->source, pseudo.source, 32);
	__builtin_memcpy(&ip[1], &reset, sizeof(reset));
	return 1;
}
