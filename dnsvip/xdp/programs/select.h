/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* A new flow: verify, admit, select, record (dnsvip/dispatcher/engine.py), and the selection of a server. */
#pragma once
#include "decode.h"
#include "flow.h"
#include "icmp.h"

#define CLIENT_WORD 0x0000746e65696c63ULL  /* "client" */
#define SESSION_WORD 0x006e6f6973736573ULL /* "session" */
#define SOURCE_WORD 0x0000656372756f73ULL  /* "source" */

/* The hash that selects a server, by the pool's stickiness. An anonymous client is identified by its source address. */
static __always_inline __u64 sticky_hash(const struct work *w, const struct address_verdict *j, __u32 stickiness)
{
	__u64 client = bpf_cpu_to_be64(j->client), session = bpf_cpu_to_be64(j->session);
	const __be64 *source = w->packet.key.source;

	if (stickiness == STICKY_FLOW)
		return w->flow_hash;
	if (stickiness == STICKY_SESSION && j->session)
		return finished(with_word(with_word(with_word(0, SESSION_WORD), client << 8),
					  client >> 56 | session << 24),
				session >> 40 | 27ULL << 56);
	if (j->client)
		return finished(with_word(with_word(0, CLIENT_WORD), client), 16ULL << 56);
	return finished(with_word(with_word(0, SOURCE_WORD | source[0] << 48), source[0] >> 16 | source[1] << 48),
			source[1] >> 16 | 22ULL << 56);
}

static __always_inline struct ring *ring_at(__u32 number)
{
	__u32 key = 0;
	void *inner = bpf_map_lookup_elem(&rings, &number);

	return inner ? bpf_map_lookup_elem(inner, &key) : NULL;
}

/* The position of a hash's place on a ring, in bits. */
static __always_inline __u32 place_of(const struct ring *ring, __u64 hash)
{
	return hash % RING_SIZE * ring->bits;
}

/* The word that holds a place. */
static __always_inline const __u16 *place_word(const struct ring *ring, __u32 place)
{
	__u32 number = place >> 4;

	opaque(number);
	if (number >= RING_SIZE)
		return NULL;
	opaque(number);
	return &ring->places[number];
}

/* Prefetches what a new flow will need: the cached address, its row of the index, and its place on the ring used
 * last, which is usually the same again. */
static __always_inline void read_ahead(const struct work *w, const struct lanes *l)
{
	struct row *row = row_at(w->index_hash & l->row_mask);
	struct ring *ring = ring_at(w->ring);
	const __u16 *place = ring ? place_word(ring, place_of(ring, w->flow_hash)) : NULL;
	struct decoded *d = decoded_at(w->address_hash, 0);

	if (d)
		(void)*(volatile __u64 *)&d->address.lo;
	if (row)
		(void)*(volatile __u32 *)&row->words[MARK];
	if (place)
		(void)*(const volatile __u16 *)place;
}

/* The server that a pool selects for a hash; NONE where no server takes new flows. */
static __always_inline __u32 pick(struct work *w, const struct site *site, __u32 pool, __u32 version, __u64 hash)
{
	const struct ring *ring;
	const __u16 *word;
	__u32 place, server;

	if (pool >= MAX_POOLS)
		return NONE;
	w->ring = version == 4 ? site->pools[pool].ring4 : site->pools[pool].ring6;
	ring = ring_at(w->ring);
	if (!ring)
		return NONE;
	place = place_of(ring, hash);
	word = place_word(ring, place);
	if (!word)
		return NONE;
	server = *word >> (place & 15) & ((1U << (ring->bits & 31)) - 1);
	server = ring->servers[server & (MAX_SERVERS - 1)];
	return server < MAX_SERVERS ? server : NONE;
}

/* Sets the verdict that forwards a packet to a server (whose number is under MAX_SERVERS). */
static __always_inline void forward_to(struct verdict *v, const struct site *site, __u32 owner, __u8 reason, __u64 hash)
{
	__u32 number = owner >> 8;

	opaque(number);
	number &= MAX_SERVERS - 1;
	set_verdict(v, ACTION_FORWARD, reason);
	v->server = number;
	v->dscp = owner & 255;
	v->mode = site->servers[number].mode;
	v->hash = hash;
}

/* Sets the client's port at the server of a flow under nat, allocating one where it has none. A flow for which no
 * port is free is removed. Always 0. */
static __noinline int assign_port(struct work *w)
{
	struct flow *flow;

	flow = find_flow(&w->packet.key);
	if (flow && !flow->translated && open_translation()) {
		forget(flow);
		set_verdict(&w->verdict, ACTION_DROP, REASON_NO_NAT_PORT);
		w->verdict.server = NONE;
		return 0;
	}
	flow = find_flow(&w->packet.key);
	w->verdict.port = flow && flow->translated ? flow->port : w->packet.key.source_port;
	return 0;
}

/* Reserves the single use of a proven address. Returns 1, 0 where the table is full, negative where another flow came
 * first. */
static __always_inline int reserve_use(struct work *w)
{
	w->use_made.key = w->packet.key;
	w->use_made.until = 0;
	w->use_made.ended = w->again == AGAIN_ANSWERED || (w->packet.flags && !opens(&w->packet));
	if (bpf_map_lookup_elem(&uses, &w->use) || !bpf_map_update_elem(&uses, &w->use, &w->use_made, BPF_NOEXIST))
		return 1;
	return bpf_map_lookup_elem(&uses, &w->use) ? -1 : 0;
}

/* Quality of service: the reason to continue with, or the reason not to. */
static __always_inline __u8 admit(struct work *w, const struct tier *tier, __u32 number, __u8 accepted)
{
	__s64 wait;

	if (tier->drop)
		return REASON_TIER_DROP;
	if (!tier->interval)
		return accepted;
	wait = take_token(number, tier->interval, tier->burst, tier->debt, w->now);
	if (wait == OVER_RATE)
		return tier->over_passes ? REASON_OVER_RATE_PASSED : REASON_OVER_RATE;
	w->verdict.held = wait > 0;
	return wait ? REASON_HELD : accepted;
}

static __always_inline int is_authentic(__u8 reason)
{
	return reason == REASON_ISSUED || reason == REASON_PROVEN;
}

static __always_inline int is_accepted(__u8 reason)
{
	return is_authentic(reason) || reason == REASON_PLAIN || reason == REASON_CLASS;
}

static __always_inline void record_flow(struct work *w, const struct site *site, struct lanes *l,
				     __u32 session_seconds)
{
	__u8 reason = w->address_verdict.reason;
	__u64 *opened_by_tier = bpf_map_lookup_elem(&opened, &w->address_verdict.tier);
	struct slot slot;
	struct flow *flow;

	if (opened_by_tier)
		(*opened_by_tier)++;
	if (!next_slot(l, site, w->address_hash, w->index_hash,
		       reason == REASON_BAD_TAG || reason == REASON_UNKNOWN_EPOCH, &slot))
		return;
	flow = slot.flow;
	flow->key = w->packet.key;
	flow->hash = w->verdict.hash;
	flow->client = w->address_verdict.client;
	flow->place = slot.place;
	flow->owner = w->verdict.server << 8 | w->verdict.dscp;
	flow->seen = w->seconds;
	flow->life = w->packet.key.protocol == IPPROTO_TCP ? session_seconds : DATAGRAM_SECONDS;
	flow->port = 0;
	flow->state = FLOW_NEW;
	flow->closing = 0;
	flow->translated = 0;
	flow->answered = w->address_verdict.single && w->use_made.ended;
	flow->anonymous = !is_authentic(reason);
	flow->opened = w->seconds;
	complete(l, &slot, w->address_hash);
}

/* The known flow of a SYN, where its server is of a tier's pool. */
static __always_inline struct flow *flow_in_pool(struct work *w, const struct site *site, const struct tier *tier)
{
	struct flow *flow = w->again ? find_flow(&w->packet.key) : NULL;
	__u32 number = flow ? flow->owner >> 8 : NONE;

	return number < MAX_SERVERS && tier->pool < MAX_POOLS && site->servers[number].pool == tier->pool ? flow : NULL;
}

/* Gives the known flow of a SYN the server and mark that it has from now on. Always 0. */
static __noinline int renew_flow(struct work *w)
{
	struct flow *flow = find_flow(&w->packet.key);

	if (!flow)
		return 0;
	if (flow->owner >> 8 != w->verdict.server)
		close_translation(flow);
	flow->owner = w->verdict.server << 8 | w->verdict.dscp;
	flow->hash = w->verdict.hash;
	flow->client = w->address_verdict.client;
	return 0;
}

/* Admits a flow to a verified address and selects its server. Sets the verdict; returns 1 where the flow is to be
 * recorded. */
static __always_inline int select_server(struct work *w, const struct site *site)
{
	struct address_verdict *j = &w->address_verdict;
	const struct tier *tier;
	__u32 stickiness = STICKY_FLOW, server;
	struct flow *flow;
	__u64 hash;
	__u8 reason;

	if (j->tier >= MAX_TIERS) {
		set_verdict(&w->verdict, ACTION_DROP, j->reason);
		return 0;
	}
	if (!w->maybe_decoded)
		w->flow_hash = key_hash(&w->packet.key);
	tier = &site->tiers[j->tier];
	flow = flow_in_pool(w, site, tier);
	if (w->again && !flow && !is_accepted(j->reason)) { /* no default tier for a flow of another */
		set_verdict(&w->verdict, ACTION_DROP, j->reason);
		return 0;
	}
	reason = admit(w, tier, j->tier, j->reason);
	if (reason == REASON_TIER_DROP || reason == REASON_OVER_RATE) {
		set_verdict(&w->verdict, ACTION_DROP, reason);
		return 0;
	}
	if (flow && site->servers[(flow->owner >> 8) & (MAX_SERVERS - 1)].keeps) {
		forward_to(&w->verdict, site, (flow->owner & ~255U) | tier->dscp, is_accepted(reason) ? REASON_KNOWN : reason,
			   flow->hash);
		return 1;
	}
	if (tier->pool < MAX_POOLS)
		stickiness = site->pools[tier->pool].stickiness;
	hash = sticky_hash(w, j, stickiness);
	server = pick(w, site, tier->pool, w->packet.version, hash);
	if (server == NONE) {
		set_verdict(&w->verdict, ACTION_ANSWER, REASON_NO_SERVER);
		w->verdict.held = 0;
		return 0;
	}
	forward_to(&w->verdict, site, server << 8 | tier->dscp, reason, hash);
	return !(w->packet.flags & RST); /* a reset ends the flow: nothing to record */
}

/* The verdict on the first packet of a flow, or on a SYN on a known one, into work.verdict. Always 0. */
static __noinline int new_flow(struct work *w, const struct site *site, struct lanes *l)
{
	struct address_verdict *j;
	__u32 cluster;
	int path_mtu = 1;

	j = &w->address_verdict;
	cluster = cluster_of(&w->cluster, site, &w->packet.key);
	if (cluster >= MAX_CLUSTERS) {
		set_verdict(&w->verdict, ACTION_PASS, REASON_NOT_OURS);
		return 0;
	}
	if (is_martian(&w->packet.key)) {
		set_verdict(&w->verdict, ACTION_DROP, REASON_MARTIAN_SOURCE);
		return 0;
	}
	j->cluster = cluster;
	if (w->maybe_decoded) {
		w->flow_hash = key_hash(&w->packet.key);
		read_ahead(w, l);
	}
	verify(w, site, l);
	w->client = j->client;
	if (j->single && j->reason == REASON_PROVEN)
		path_mtu = reserve_use(w);
	else
		j->single = 0;
	if (path_mtu <= 0) {
		set_verdict(&w->verdict, ACTION_DROP, path_mtu ? REASON_REPLAYED : REASON_REPLAY_TABLE_FULL);
		return 0;
	}
	if (!select_server(w, site)) {
		struct remembered *use = j->single ? bpf_map_lookup_elem(&uses, &w->use) : NULL;

		if (use && !use->until)
			bpf_map_delete_elem(&uses, &w->use);
		return 0;
	}
	if (w->again)
		renew_flow(w);
	else
		record_flow(w, site, l, site->clusters[cluster].session_seconds);
	if (j->single) {
		w->use_made.until = w->seconds + PROOF_SLOTS * site->clusters[cluster].slot_seconds;
		bpf_map_update_elem(&uses, &w->use, &w->use_made, BPF_ANY);
	}
	if (w->verdict.mode == MODE_NAT)
		assign_port(w);
	return 0;
}

/* Selects another server of the same pool for a flow whose server is gone, without verifying its address again. */
__noinline int reselect(void)
{
	struct site *site = current_site();
	struct work *w = work();
	struct flow *flow;
	__u32 number, server;

	if (!site || !w)
		return 0;
	flow = find_flow(&w->packet.key);
	if (!flow)
		return 0;
	number = flow->owner >> 8;
	server = number < MAX_SERVERS ? pick(w, site, site->servers[number].pool, w->packet.version, flow->hash) : NONE;
	if (server == NONE) {
		set_verdict(&w->verdict, ACTION_ANSWER, REASON_NO_SERVER);
		return 0;
	}
	close_translation(flow);
	flow->owner = server << 8 | (flow->owner & 255);
	forward_to(&w->verdict, site, flow->owner, REASON_RESELECTED, flow->hash);
	return 0;
}
