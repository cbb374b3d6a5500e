/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The straight way of nearly all packets: TCP segments and datagrams of IPv6, without tags and extension headers, of an
 * established flow whose server keeps it and is not under nat. What is decided here, `decide` (dispatch.bpf.c) decides
 * in the same way; everything else is left to it, unchanged. It is code of its own because a packet pays for each cache
 * line that it touches: no `struct packet`, no filter, no second line of a record. */
#pragma once
#include "forward.h"
#include "select.h"

#define LEFT (-1)

struct straight {
	struct ethhdr link;
	struct ip6_head ip;
	union {
		struct tcp_head tcp;
		struct udp_head udp;
	};
} __attribute__((packed));

/* The head of a frame that may go the straight way, or NULL. Checks all that `parse` does. */
static __always_inline struct straight *straight_head(struct xdp_md *ctx)
{
	struct straight *head = (void *)(long)ctx->data;
	__u32 length, size, flags;

	if ((void *)(head + 1) > (void *)(long)ctx->data_end)
		return NULL;
	length = bpf_ntohs(head->ip.length);
	if ((head->link.h_proto ^ bpf_htons(ETH_P_IPV6)) |
	    ((head->ip.word & bpf_htonl(0xf0000000)) ^ bpf_htonl(6u << 28)) | (head->ip.hops <= 1) |
	    (length + sizeof(head->link) + sizeof(head->ip) > frame_length(ctx)))
		return NULL;
	if (head->ip.next == IPPROTO_UDP) {
		size = bpf_ntohs(head->udp.length);
		return size >= sizeof(head->udp) && size <= length ? head : NULL;
	}
	size = (head->tcp.offset >> 4) * 4;
	flags = head->tcp.flags & 63;
	if ((head->ip.next ^ IPPROTO_TCP) | (size < sizeof(head->tcp)) | (size > length) | !flags |
	    (flags & (SYN | FIN | RST)))
		return NULL;
	return head;
}

/* The established flow with a key, in the row where it belongs. */
static __always_inline struct flow *established_flow(const struct flow_key *key)
{
	struct lanes *l = lanes_now();
	__u32 tag, rest, word;
	struct flow *flow;
	struct row *row;
	__u32 *filter;
	__u64 hash;
	int n;

	if (!l)
		return NULL;
	hash = index_hash(l, key);
	if (key->protocol != IPPROTO_TCP) { /* as in follow_flow */
		filter = filter_word(l, sweeps_of(l->phase), address_hash(l, key));
		if (!filter || !may_be_known(filter, hash))
			return NULL;
	}
	row = row_at(hash & l->row_mask);
	if (!row)
		return NULL;
	rest = ~l->number_mask;
	tag = tag_of(l, hash) | ESTABLISHED;
	word = row->words[first_column(hash) & MARK];
	if (!((word ^ tag) & rest)) {
		flow = record_at(l->new_places + (word & l->number_mask));
		if (flow && flow->word == word && is_same(&flow->key, key))
			return flow;
	}
#pragma clang loop unroll(disable)
	for (n = 0; n < WORDS; n++) {
		word = row->words[n];
		if ((word ^ tag) & rest)
			continue;
		flow = record_at(l->new_places + (word & l->number_mask));
		if (flow && flow->word == word && is_same(&flow->key, key))
			return flow;
	}
	return NULL;
}

/* Sends the frame with a head to a server, in another header. */
static __always_inline int send_inside(struct xdp_md *ctx, struct straight *head, const struct site *site,
				       const struct server *server, const struct flow *flow, const struct hop *hop)
{
	__u32 class = bpf_ntohl(head->ip.word) >> 20 & 0xff, length = bpf_ntohs(head->ip.length) + sizeof(head->ip);
	__u64 hash = flow->hash;

	if ((flow->owner & 255) != NO_DSCP)
		class = (flow->owner & 255) << 2 | (class & 3);
	if (bpf_xdp_adjust_head(ctx, -(int)sizeof(head->ip))) {
		count_side(SIDE_NOT_SENT);
		return XDP_DROP;
	}
	head = (void *)(long)ctx->data;
	if ((void *)(head + 1) > (void *)(long)ctx->data_end)
		return XDP_DROP;
	head->link.h_proto = bpf_htons(ETH_P_IPV6);
	head->ip.word = bpf_htonl(6u << 28 | class << 20 | (hash & 0xfffff));
	head->ip.length = bpf_htons(length);
	head->ip.next = IPPROTO_IPV6;
	head->ip.hops = OUTER_HOPS;
	head->ip.source[0] = site->encap_source;
	head->ip.source[1] = bpf_cpu_to_be64(hash);
	head->ip.destination[0] = server->address[0];
	head->ip.destination[1] = server->address[1];
	return send(ctx, hop);
}

/* Forwards a packet of an established flow; an XDP action, or LEFT where it is left to the rest of the program. */
static __noinline int follow_established(struct xdp_md *ctx, struct work *w, const struct site *site,
					 const struct config *c)
{
	struct straight *head = straight_head(ctx);
	const struct server *server;
	struct flow_key key = {};
	__u32 number, size, index = REASON_KNOWN + REASONS * ACTION_FORWARD;
	struct counter *counter;
	struct flow *flow;
	struct hop *hop;

	if (!head)
		return LEFT;
	__builtin_memcpy(key.source, head->ip.source, 32);
	key.source_port = head->tcp.source_port;
	key.destination_port = head->tcp.destination_port;
	key.protocol = head->ip.next;
	key.version = 6;
	number = w->cluster; /* of the packet before; of a packet elsewhere there is seldom a flow */
	if (number >= MAX_CLUSTERS || !has_prefix_of(&site->clusters[number], &key))
		return LEFT;
	flow = established_flow(&key);
	if (!flow || is_policed(site, flow->tier) || (key.protocol == IPPROTO_UDP && flow->anonymous & TAKEN_OVER))
		return LEFT;
	number = flow->owner >> 8;
	if (number >= MAX_SERVERS) /* it has been ended */
		return LEFT;
	opaque(number);
	number &= MAX_SERVERS - 1;
	size = bpf_ntohs(head->ip.length) + sizeof(head->ip);
	server = &site->servers[number];
	if (!server->keeps | (server->mode == MODE_NAT) | (size > server->path_mtu))
		return LEFT;
	hop = bpf_map_lookup_elem(&hops, &number);
	if (!hop || (hop->until < w->now) | !hop->known)
		return LEFT;
	if (flow->seen != w->seconds) {
		if (is_idle(flow, w->seconds))
			return LEFT;
		flow->seen = w->seconds;
	}
	if (flow->client) {
		flow->packets++;
		flow->bytes += size;
	}
	hop->packets++;
	hop->bytes += size;
	counter = bpf_map_lookup_elem(&counters, &index);
	if (counter) {
		counter->packets++;
		counter->bytes += frame_length(ctx);
	}
	if (c->trace)
		trace(REASON_KNOWN, ACTION_FORWARD, number, 0);
	head->ip.hops--;
	if (server->mode == MODE_ENCAP)
		return send_inside(ctx, head, site, server, flow, hop);
	if ((flow->owner & 255) != NO_DSCP)
		head->ip.word = (head->ip.word & bpf_htonl(0xf03fffff)) | bpf_htonl((flow->owner & 255) << 22);
	return send(ctx, hop);
}
