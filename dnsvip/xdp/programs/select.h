/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* A new flow: verify, admit, select, record (dnsvip/dispatcher/new_flows.py), and the selection of a server. */
#pragma once
#include "policing.h"
#include "decode.h"
#include "flow.h"
#include "icmp.h"
#include "relay.h"
#include "uses.h"

#define CLIENT_WORD 0x0000746e65696c63ULL  /* "client" */
#define SESSION_WORD 0x006e6f6973736573ULL /* "session" */
#define SOURCE_WORD 0x0000656372756f73ULL  /* "source" */

/* Whether an address has a session that a label named, which is not one client's alone. */
static __always_inline int is_shared(const struct site *site, const struct address_verdict *j)
{
	__u32 cluster = j->cluster;

	if (cluster >= MAX_CLUSTERS)
		return 0;
	opaque(cluster);
	cluster &= MAX_CLUSTERS - 1;
	return site->clusters[cluster].shared_shift && j->session >> (site->clusters[cluster].shared_shift & 63) & 1;
}

/* The hash that selects a server, by the pool's stickiness. An anonymous client is identified by its source address. */
static __always_inline __u64 sticky_hash(const struct work *w, const struct site *site, const struct address_verdict *j,
					 __u32 stickiness)
{
	__u64 client = bpf_cpu_to_be64(j->client), session = bpf_cpu_to_be64(j->session);
	const __be64 *source = w->packet.key.source;

	if (stickiness == STICKY_FLOW)
		return w->flow_hash;
	if (stickiness == STICKY_SESSION && j->session && is_shared(site, j))
		client = 0;
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

/* The server at a hash's place on a ring; NONE where there is none. */
static __always_inline __u32 server_at(const struct ring *ring, __u64 hash)
{
	__u32 place = hash % RING_SIZE * ring->bits, number = place >> 4, server;

	opaque(number);
	if (number >= RING_SIZE)
		return NONE;
	opaque(number);
	server = ring->places[number] >> (place & 15) & ((1U << (ring->bits & 31)) - 1);
	server = ring->servers[server & (MAX_SERVERS - 1)];
	return server < MAX_SERVERS ? server : NONE;
}

/* The hint to the ring of an address. */
static __always_inline __u16 *ring_hint(__u64 address)
{
	__u32 number = address >> 8 & (HINT_LINES - 1);
	struct hint_line *line = bpf_map_lookup_elem(&ring_hints, &number);

	return line ? &line->rings[address & (HINTS - 1)] : NULL;
}

/* Prefetches a server that a new flow of an address will probably go to: the address is usually of the same pool as the
 * one before with the same hint, whose entry in the decode cache tells, but later. */
static __always_inline void read_server_ahead(const struct work *w, const struct site *site)
{
	const __u16 *hint = ring_hint(w->address_hash);
	const struct ring *ring = hint ? ring_at(*hint) : NULL;
	__u32 number = ring ? server_at(ring, w->flow_hash) : NONE;
	struct hop *hop = bpf_map_lookup_elem(&hops, &number);

	if (hop)
		(void)*(volatile __u64 *)&hop->until;
	opaque(number);
	(void)*(const volatile __u8 *)&site->servers[number & (MAX_SERVERS - 1)].mode;
}

/* Prefetches what a new flow will need: the cached address, its row of the index, the record of the oldest new flow, which
 * it usually gets, and its server. */
static __always_inline void read_ahead(const struct work *w, const struct site *site, const struct lanes *l)
{
	struct row *row = row_at(w->index_hash & l->row_mask);
	struct decoded *d = decoded_at(l, w->address_hash, 0);
	struct flow *flow = record_at(l->cursor % l->new_places);

	if (d)
		(void)*(volatile __u64 *)&d->address.lo;
	if (row)
		(void)*(volatile __u32 *)&row->words[MARK];
	read_server_ahead(w, site);
	if (flow) {
		(void)*(volatile __u8 *)&flow->state;
		(void)*(volatile __u64 *)&flow->key.source[0];
	}
}

/* The server that a pool selects for a hash; NONE where no server takes new flows. */
static __always_inline __u32 pick(struct work *w, const struct site *site, __u32 pool, __u32 version, __u64 hash)
{
	const struct ring *ring;
	__u32 number;
	__u16 *hint;

	if (pool >= MAX_POOLS)
		return NONE;
	number = version == 4 ? site->pools[pool].ring4 : site->pools[pool].ring6;
	ring = ring_at(number);
	if (!ring)
		return NONE;
	hint = ring_hint(w->address_hash);
	if (hint && *hint != number)
		*hint = number;
	return server_at(ring, hash);
}

/* Whether a server keeps its flows of an IP version: under nat only those of its own. */
static __always_inline int keeps_flows(const struct site *site, __u32 number, __u32 version)
{
	return number < MAX_SERVERS && site->servers[number].keeps &&
	       (site->servers[number].mode != MODE_NAT || site->servers[number].version == version);
}

/* Sets the client's port at the server of a flow under nat, allocating one where it has none. A flow for which no
 * port is free is removed; one that is not recorded has none. Always 0. */
static __noinline int assign_port(struct work *w)
{
	struct flow *flow;

	flow = find_flow(&w->packet.key);
	if (!flow || (!flow->translated && open_translation())) {
		if (flow)
			forget(flow);
		set_verdict(&w->verdict, ACTION_DROP, REASON_NO_NAT_PORT);
		w->verdict.server = NONE;
		return 0;
	}
	flow = find_flow(&w->packet.key);
	w->verdict.port = flow && flow->translated ? flow->port : w->packet.key.source_port;
	return 0;
}

/* Takes a token of a tier's rate for the new flow of work.packet, of whoever has to. Returns 0, 1 where the flow has to
 * wait for it, or OVER_RATE. (Global, so that the kernel verifies it by itself, once.) */
__noinline int take_rate(__u32 number)
{
	struct site *site = current_site();
	struct work *w = work();
	const struct tier *tier;
	__u64 *own = NULL;
	__s64 wait;

	if (!site || !w || number >= MAX_TIERS)
		return OVER_RATE;
	tier = &site->tiers[number];
	if (tier->rate_per != PER_TIER)
		own = own_bucket(&w->packet.key, w->address_verdict.client, tier->rate_per, number, w->now);
	if (own)
		wait = take(own, tier->interval, tier->burst, tier->debt, w->now);
	else
		wait = take_token(number, tier->interval, tier->burst, tier->debt, w->now);
	return wait < 0 ? OVER_RATE : wait > 0;
}

/* Whether a running flow is taken over, by its cluster's rate; its tier's is for new ones. */
static __always_inline __u8 resume(struct work *w)
{
	const struct site *site = current_site();
	__u32 cluster = w->address_verdict.cluster;

	if (!site || cluster >= MAX_CLUSTERS ||
	    take_token(BUCKET_RESUMED + cluster, site->clusters[cluster].resume_interval, RESUME_BURST, 0, w->now))
		return REASON_RESUMED_OVER_RATE;
	return REASON_RESUMED;
}

/* Quality of service: the reason to continue with, or the reason not to. */
static __always_inline __u8 admit(struct work *w, const struct tier *tier, __u32 number, __u8 accepted)
{
	int wait;

	if (tier->drop)
		return REASON_TIER_DROP;
	if (accepted == REASON_RESUMED)
		return resume(w);
	if (!tier->interval)
		return accepted;
	wait = take_rate(number);
	if (wait == OVER_RATE)
		return tier->over_passes ? REASON_OVER_RATE_PASSED : REASON_OVER_RATE;
	w->verdict.held = wait;
	return wait ? REASON_HELD : accepted;
}

static __always_inline int is_authentic(__u8 reason)
{
	return reason == REASON_ISSUED || reason == REASON_PROVEN || reason == REASON_RESUMED ||
	       reason == REASON_SOURCE;
}

static __always_inline int is_accepted(__u8 reason)
{
	return is_authentic(reason) || reason == REASON_PLAIN || reason == REASON_CLASS ||
	       reason == REASON_SOURCE_NETWORK;
}

/* Relays work.packet, whose address is verified, to the dispatcher that owns its flow, or drops it; 0 where that is this
 * one. A packet that opens a flow takes a token of its tier's rate and is recorded; a running flow needs neither (of IPv4
 * none is known to run), and a known one goes on as it did where the address is not valid. */
__noinline int relay_flow(void)
{
	struct site *site = current_site();
	struct work *w = work();
	__u32 tier, running;

	if (!site || !w || !flow_owner())
		return 0;
	running = w->running && w->packet.version == 6;
	tier = w->address_verdict.tier;
	w->unrecorded = (running && !w->again) || (w->again && !is_accepted(w->address_verdict.reason));
	if ((!running || w->again) && tier < MAX_TIERS && site->tiers[tier].interval && take_rate(tier) == OVER_RATE &&
	    !site->tiers[tier].over_passes) {
		set_verdict(&w->verdict, ACTION_DROP, REASON_OVER_RATE);
		w->unrecorded = 1;
		return 1;
	}
	if (!relay_to(w->first, RELAYED_TO_OWNER, REASON_RELAYED))
		return 0;
	if (!w->unrecorded && !w->again && !has_relayed_place(w))
		w->unrecorded = 1;
	w->client = w->address_verdict.client = 0; /* the owner counts what a client uses */
	w->address_verdict.single = 0;
	return 1;
}

static __noinline int count_route(const struct address_verdict *j)
{
	__u32 index = j->cluster * ROUTES_EACH + j->route.rule;
	__u64 *count = bpf_map_lookup_elem(&routed, &index);

	if (count)
		(*count)++;
	return 0;
}

/* Counts a new flow at its server. */
static __always_inline void count_flow(__u32 server)
{
	struct hop *hop = bpf_map_lookup_elem(&hops, &server);

	if (hop)
		hop->flows++;
}

/* Counts a flow that is opened, or opened again after its end; one that is relayed its owner counts. */
static __always_inline void count_opened(struct work *w)
{
	__u64 *opened_by_tier = bpf_map_lookup_elem(&opened, &w->address_verdict.tier);

	if (w->verdict.reason == REASON_RELAYED)
		return;
	if (opened_by_tier)
		(*opened_by_tier)++;
	count_flow(w->verdict.server);
	if (w->address_verdict.route.rule)
		count_route(&w->address_verdict);
}

static __always_inline void record_flow(struct work *w, const struct site *site, struct lanes *l,
				     __u32 session_seconds)
{
	__u8 reason = w->address_verdict.reason;
	struct slot slot;
	struct flow *flow;

	count_opened(w);
	w->recorded = 1;
	set_priority(w, site);
	if (!next_slot(l, site, w->address_hash, w->index_hash,
		       reason == REASON_BAD_TAG || reason == REASON_UNKNOWN_EPOCH, w->priority, w->seconds, &slot))
		return;
	flow = slot.flow;
	flow->key = w->packet.key;
	flow->hash = w->verdict.hash;
	flow->client = w->address_verdict.client;
	flow->place = slot.place;
	flow->owner = w->verdict.server << 8 | w->dscp;
	flow->seen = w->seconds;
	flow->life = w->packet.key.protocol == IPPROTO_TCP ? session_seconds : DATAGRAM_SECONDS;
	flow->port = 0;
	flow->state = FLOW_NEW;
	flow->closing = 0;
	flow->translated = 0;
	flow->answered = (w->address_verdict.single && w->use_made.ended) ||
			 (reason == REASON_RESUMED && w->packet.flags);
	flow->anonymous = !is_authentic(reason) || w->address_verdict.unproven ? ANONYMOUS : 0;
	if (reason == REASON_RESUMED)
		flow->anonymous |= TAKEN_OVER;
	if (w->verdict.reason == REASON_RELAYED)
		flow->anonymous = ANONYMOUS | STAYS_NEW;
	flow->anonymous |= w->priority << PRIORITY_SHIFT;
	flow->tier = w->address_verdict.tier;
	flow->opened = w->seconds;
	/* Under nat a flow for which no port is free goes at once. */
	count_in_record(w, flow, flow->client && w->verdict.mode != MODE_NAT);
	complete(l, &slot, w->address_hash);
}

/* The known flow of a SYN, where its server is of a pool. */
static __always_inline struct flow *flow_in_pool(struct work *w, const struct site *site, __u32 pool)
{
	struct flow *flow = w->again ? find_flow(&w->packet.key) : NULL;
	__u32 number = flow ? flow->owner >> 8 : NONE;

	return number < MAX_SERVERS && pool < MAX_POOLS && site->servers[number].pool == pool ? flow : NULL;
}

/* Gives a known flow that is opened again the server and mark that it has from now on. Always 0. */
static __noinline int renew_flow(struct work *w)
{
	struct lanes *l = lanes_now();
	struct flow *flow = find_flow(&w->packet.key);

	if (!flow)
		return 0;
	if ((flow->owner & ~ENDED) >> 8 != w->verdict.server)
		close_translation(flow);
	flow->owner = w->verdict.server << 8 | w->dscp;
	flow->hash = w->verdict.hash;
	if (flow->closing) {
		count_opened(w);
		w->recorded = 1;
		flow->closing = 0;
	}
	add_up(flow);
	if (flow->anonymous & STAYS_NEW && w->verdict.reason != REASON_RELAYED)
		flow->anonymous = !is_authentic(w->address_verdict.reason) || w->address_verdict.unproven ? ANONYMOUS : 0;
	if (l && flow->state == FLOW_ESTABLISHED)
		count_place(l, flow, -1);
	flow->client = w->address_verdict.client;
	flow->tier = w->address_verdict.tier;
	find_priority();
	flow->anonymous = (flow->anonymous & (ANONYMOUS | STAYS_NEW)) | w->priority << PRIORITY_SHIFT;
	if (l && flow->state == FLOW_ESTABLISHED)
		count_place(l, flow, 1);
	return 0;
}

/* As `police`, also of tiers that are not policed. */
static __always_inline int conforming(const struct site *site, const struct address_verdict *j)
{
	return !is_policed(site, j->tier) || police(j->client, j->tier);
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
		set_verdict(&w->verdict, is_answered_expired(w, site) ? ACTION_ANSWER : ACTION_DROP, j->reason);
		return 0;
	}
	if (!w->maybe_decoded)
		w->flow_hash = key_hash(&w->packet.key);
	tier = &site->tiers[j->tier];
	route_plain(w);
	flow = flow_in_pool(w, site, j->route.pool);
	if (w->again && !flow && !is_accepted(j->reason)) { /* no default tier for a flow of another */
		set_verdict(&w->verdict, ACTION_DROP, j->reason);
		return 0;
	}
	reason = admit(w, tier, j->tier, j->reason);
	if (reason == REASON_TIER_DROP || reason == REASON_OVER_RATE || reason == REASON_RESUMED_OVER_RATE) {
		set_verdict(&w->verdict, ACTION_DROP, reason);
		return 0;
	}
	if (flow && keeps_flows(site, flow->owner >> 8, w->packet.version)) {
		if (is_accepted(reason) && !flow->closing)
			reason = REASON_KNOWN;
		forward_to(&w->verdict, site, (flow->owner & ~255U) | j->route.dscp, reason, flow->hash);
		w->dscp = w->verdict.dscp;
		return conforming(site, j);
	}
	if (j->route.pool < MAX_POOLS)
		stickiness = site->pools[j->route.pool].stickiness;
	hash = sticky_hash(w, site, j, stickiness);
	server = pick(w, site, j->route.pool, w->packet.version, hash);
	if (server == NONE) {
		set_verdict(&w->verdict, ACTION_ANSWER, REASON_NO_SERVER);
		w->verdict.held = 0;
		return 0;
	}
	forward_to(&w->verdict, site, server << 8 | j->route.dscp, reason, hash);
	w->dscp = w->verdict.dscp;
	return conforming(site, j) &&
	       !(w->packet.flags & RST); /* a reset ends the flow: nothing to record */
}

/* The verdict on a packet that goes to no cluster and belongs to no known flow: it may be one of another dispatcher's. */
static __always_inline void pass_on(struct work *w)
{
	if (!w->shares || !relay_reply())
		set_verdict(&w->verdict, ACTION_PASS, REASON_NOT_OURS);
}

/* The verdict on the first packet of a flow, or on one that opens a known one again, into work.verdict. Always 0. */
static __noinline int new_flow(struct work *w, const struct site *site, struct lanes *l)
{
	struct address_verdict *j;
	__u32 cluster;
	int use = 1;

	j = &w->address_verdict;
	cluster = cluster_of(&w->cluster, site, &w->packet.key);
	if (cluster >= MAX_CLUSTERS) {
		pass_on(w);
		return 0;
	}
	if (is_nobodys(&site->clusters[cluster], &w->packet.key)) {
		set_verdict(&w->verdict, ACTION_DROP, REASON_MARTIAN_SOURCE);
		return 0;
	}
	j->cluster = cluster;
	if (w->maybe_decoded) {
		w->flow_hash = key_hash(&w->packet.key);
		read_ahead(w, site, l);
	}
	verify(w, site);
	w->client = j->client;
	if (w->shares && relay_flow()) {
		if (w->unrecorded)
			return 0;
		goto record;
	}
	if (j->single && !j->unproven && (j->reason == REASON_PROVEN || j->reason == REASON_RESUMED))
		use = reserve_use(w);
	else
		j->single = 0;
	if (use <= 0) {
		set_verdict(&w->verdict, ACTION_DROP, use ? REASON_REPLAYED : REASON_REPLAY_TABLE_FULL);
		return 0;
	}
	if (!select_server(w, site)) {
		release_use(w);
		return 0;
	}
record:
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

/* Where an ICMP error about a flow that another dispatcher knows goes: to the server that the flow's address leads to,
 * at the rate of the errors that we send; under nat to the owner of its translation. Returns 0 where there is no such
 * one. */
static __noinline int follow_elsewhere(struct work *w, const struct site *site, struct lanes *l)
{
	struct address_verdict *j = &w->address_verdict;
	__u32 stickiness = STICKY_FLOW, server;
	int translates;
	__u64 hash;

	j->cluster = cluster_of(&w->cluster, site, &w->packet.key);
	if (j->cluster >= MAX_CLUSTERS || is_martian(&w->packet.key))
		return 0;
	w->address_hash = address_hash(l, &w->packet.key);
	w->maybe_decoded = w->forged = 0;
	w->label = 0;
	w->again = AGAIN_NOT;
	w->running = 1;
	verify(w, site);
	if (j->tier >= MAX_TIERS || site->tiers[j->tier].drop)
		return 0;
	w->flow_hash = key_hash(&w->packet.key);
	route_plain(w);
	if (j->route.pool < MAX_POOLS)
		stickiness = site->pools[j->route.pool].stickiness;
	hash = sticky_hash(w, site, j, stickiness);
	server = pick(w, site, j->route.pool, w->packet.version, hash);
	if (server == NONE)
		return 0;
	translates = site->servers[server & (MAX_SERVERS - 1)].mode == MODE_NAT;
	if ((translates && !find_owner()) ||
	    take_token(BUCKET_UNKNOWN_ERRORS, ANSWER_INTERVAL, ANSWER_BURST, 0, w->now))
		return 0;
	if (translates)
		return relay_to(w->first, RELAYED_TO_OWNER, REASON_ICMP_ERROR_UNKNOWN_FLOW);
	w->client = j->client;
	forward_to(&w->verdict, site, server << 8 | j->route.dscp, REASON_ICMP_ERROR_UNKNOWN_FLOW, hash);
	return 1;
}

/* Selects another server of the same pool (of a client's own servers, or else the pool of its former one) for a flow
 * whose server is gone, without verifying its address again. */
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
	if (flow->owner & ENDED) {
		set_verdict(&w->verdict, ACTION_DROP, ended_reason(flow));
		return 0;
	}
	number = flow->owner >> 8;
	server = number < MAX_SERVERS ? pick(w, site, site->servers[number].pool, w->packet.version, flow->hash) : NONE;
	if (server == NONE && number < MAX_SERVERS && site->servers[number].home != site->servers[number].pool)
		server = pick(w, site, site->servers[number].home, w->packet.version, flow->hash);
	if (server == NONE) {
		set_verdict(&w->verdict, ACTION_ANSWER, REASON_NO_SERVER);
		return 0;
	}
	close_translation(flow);
	flow->owner = server << 8 | (flow->owner & 255);
	forward_to(&w->verdict, site, flow->owner, REASON_RESELECTED, flow->hash);
	return 0;
}
