/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The straight way of nearly all packets: TCP segments without SYN, FIN and RST, and datagrams, of an established flow
 * whose server keeps it and is not under nat. It needs no `struct packet`, no filter and no second line of a record. */
#pragma once
#include "select.h"
#include "straight.h"

/* The established flow with a key that a word of a row points to; NULL where it is another's. */
static __always_inline struct flow *established_at(const struct lanes *l, __u32 word, const struct flow_key *key)
{
	struct flow *flow = record_at(l->new_places + (word & l->number_mask));

	return flow && flow->word == word && is_same(&flow->key, key) ? flow : NULL;
}

/* The tag of an established flow with a hash. */
static __always_inline __u32 established_tag(const struct lanes *l, __u64 hash)
{
	return tag_of(l, hash) | ESTABLISHED;
}

/* The number of the record of the established flow of a packet with a head and this hash, in any column of its row; NONE
 * where there is none. (A function, as nearly all are in their first one.) */
static __noinline __u32 search_row(const struct straight *head, __u64 hash)
{
	struct lanes *l = lanes_now();
	struct row *row = row_at(hash & l->row_mask);
	__u32 tag = established_tag(l, hash), rest = ~l->number_mask, word;
	struct flow_key key;
	int n;

	if (!row)
		return NONE;
	straight_key(&key, head);
#pragma clang loop unroll(disable)
	for (n = 0; n < WORDS; n++) {
		word = row->words[n];
		if (!((word ^ tag) & rest) && established_at(l, word, &key))
			return l->new_places + (word & l->number_mask);
	}
	return NONE;
}

/* The established flow of a packet with a head and a key, in the row where it belongs. */
static __always_inline struct flow *established_flow(const struct straight *head, const struct flow_key *key)
{
	struct lanes *l = lanes_now();
	struct flow *flow;
	struct row *row;
	__u32 *filter;
	__u32 word;
	__u64 hash;

	hash = index_hash(l, key);
	if (unlikely(key->protocol != IPPROTO_TCP)) { /* as in follow_flow */
		filter = filter_word(l, sweeps_of(l->phase), address_hash(l, key));
		if (!filter || !may_be_known(filter, hash))
			return NULL;
	}
	row = row_at(hash & l->row_mask);
	if (!row)
		return NULL;
	word = row->words[first_column(hash) & MARK];
	if (likely(!((word ^ established_tag(l, hash)) & ~l->number_mask))) {
		flow = established_at(l, word, key);
		if (likely(flow))
			return flow;
	}
	return record_at(search_row(head, hash));
}

/* Whether the limits of its tier's policing let a packet of a flow pass, which then takes its tokens. */
static __noinline int is_within(const struct site *site, const struct flow *flow, __u32 size, __u64 now)
{
	__u64 *full = known_bucket(site, &flow->key, flow->client, flow->tier);

	return full && conforms(full, &site->tiers[flow->tier], size, now);
}

/* Forwards a packet of an established flow; an XDP action, or LEFT. */
static __noinline int follow_established(struct xdp_md *ctx, struct pace *own, const struct site *site,
					 struct straight *head)
{
	const struct server *server;
	struct flow_key key;
	struct flow *flow;
	struct hop *hop;
	__u32 number, size;
	int action;

	straight_key(&key, head);
	if (unlikely(!goes_to(own->cluster, site, &key))) {
		action = turn_to(ctx, &own->cluster, site, head);
		if (action)
			return action;
	}
	flow = established_flow(head, &key);
	if (unlikely(!flow) || (key.protocol == IPPROTO_UDP && flow->anonymous & TAKEN_OVER))
		return LEFT;
	number = flow->owner >> 8;
	if (unlikely(number >= MAX_SERVERS)) /* it has been ended */
		return LEFT;
	opaque(number);
	number &= MAX_SERVERS - 1;
	server = &site->servers[number];
	size = straight_size(head);
	if (unlikely(!server->keeps || server->mode == MODE_NAT || size > server->path_mtu))
		return LEFT;
	hop = straight_hop(number, own->now);
	if (unlikely(!hop))
		return LEFT;
	if (unlikely(flow->seen != own->seconds)) {
		if (is_idle(flow, own->seconds))
			return LEFT;
		flow->seen = own->seconds;
	}
	if (unlikely(is_policed(site, flow->tier)) && !is_within(site, flow, size, own->now))
		return LEFT; /* which decides over the limit; from here on nothing may be LEFT */
	if (flow->client) {
		flow->packets++;
		flow->bytes += size;
	}
	own->known.packets++;
	own->known.bytes += sizeof(head->link) + size;
	if (unlikely(settings()->trace))
		trace(REASON_KNOWN, ACTION_FORWARD, number, 0);
	return send_straight(ctx, head, site, server, flow->owner, flow->hash, hop);
}
