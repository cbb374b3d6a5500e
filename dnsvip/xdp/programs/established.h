/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The straight way of nearly all packets: TCP segments without SYN, FIN and RST, and datagrams, of an established flow
 * whose server keeps it and is not under nat. It needs no `struct packet`, no filter and no second line of a record. */
#pragma once
#include "select.h"
#include "straight.h"

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

/* Forwards a packet of an established flow; an XDP action, or LEFT. */
static __noinline int follow_established(struct xdp_md *ctx, struct work *w, const struct site *site,
					 const struct config *c, struct straight *head)
{
	const struct server *server;
	struct flow_key key;
	struct flow *flow;
	struct hop *hop;
	__u32 number;
	__u64 *full;
	int action;

	straight_key(&key, head);
	if (unlikely(!goes_to(w->cluster, site, &key))) {
		action = turn_to(ctx, w, site, c, &key);
		if (action)
			return action;
	}
	flow = established_flow(&key);
	if (unlikely(!flow) || (key.protocol == IPPROTO_UDP && flow->anonymous & TAKEN_OVER))
		return LEFT;
	number = flow->owner >> 8;
	if (unlikely(number >= MAX_SERVERS)) /* it has been ended */
		return LEFT;
	opaque(number);
	number &= MAX_SERVERS - 1;
	server = &site->servers[number];
	if (unlikely(!server->keeps || server->mode == MODE_NAT || straight_size(head) > server->path_mtu))
		return LEFT;
	hop = straight_hop(w, number);
	if (unlikely(!hop))
		return LEFT;
	if (unlikely(flow->seen != w->seconds)) {
		if (is_idle(flow, w->seconds))
			return LEFT;
		flow->seen = w->seconds;
	}
	if (unlikely(is_policed(site, flow->tier))) {
		full = known_bucket(site, &key, flow->client, flow->tier);
		if (!full || !conforms(full, &site->tiers[flow->tier], straight_size(head), w->now))
			return LEFT; /* which decides over the limit; from here on nothing may be LEFT */
	}
	if (flow->client) {
		flow->packets++;
		flow->bytes += straight_size(head);
	}
	count_straight(ctx, ACTION_FORWARD, REASON_KNOWN);
	if (unlikely(c->trace))
		trace(REASON_KNOWN, ACTION_FORWARD, number, 0);
	return send_straight(ctx, head, site, server, flow->owner, flow->hash, hop);
}
