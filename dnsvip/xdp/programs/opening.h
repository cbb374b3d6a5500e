/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The straight way of most first packets: a SYN to an issued address, whose tier holds no flows and is not both
 * limited in rate and policed, and whose server is not under nat; and of a SYN to a forged address that is dropped. Until
 * the flow is recorded nothing is changed, or only what would be changed again in the same way, so that a packet can still
 * be LEFT. In order: begin, the address (known from the cache, forged, or decrypted), lets_in, open_flow. */
#pragma once
#include "select.h"
#include "straight.h"

/* Begins the work on the packet with a head. */
static __always_inline void begin(struct work *w, const struct site *site, const struct straight *head, __u32 flags)
{
	struct packet *p = &w->packet;

	straight_key(&p->key, head);
	p->network = sizeof(head->link);
	p->end = sizeof(head->link) + straight_size(head);
	p->version = 6;
	p->flags = flags;
	p->fragmented = 0;
	w->running = w->forged = w->label = 0;
	w->again = AGAIN_NOT;
	clear(w, site);
}

/* Whether there is a flow with the key of work.packet, or one that it is a reply of. */
static __always_inline int has_flow(const struct work *w, const struct site *site, const __u32 *filter)
{
	if (may_be_known(filter, w->index_hash) && find_flow(&w->packet.key))
		return 1;
	return site->translates && bpf_map_lookup_elem(&replies, &w->packet.key);
}

/* Whether there may be a flow to a forged address, by a word of the filter. */
static __always_inline int may_stray(const struct site *site, const struct config *c, __u32 filter)
{
	return filter & STRAY || !c->marked || site->translates;
}

/* Drops a packet to a cluster, for a reason; an XDP action. */
static __always_inline int drop_straight(struct xdp_md *ctx, const struct config *c, __u32 cluster, __u32 reason)
{
	struct cluster_drops *drops = bpf_map_lookup_elem(&cluster_drops, &cluster);

	if (drops)
		drops->dropped++;
	count_straight(ctx, ACTION_DROP, reason);
	if (c->trace)
		trace(reason, ACTION_DROP, NONE, 0);
	return XDP_DROP;
}

/* Whether work.address_verdict, of an issued address, lets a flow in that its tier's rate does not hold. */
static __always_inline int lets_in(const struct site *site, const struct address_verdict *j)
{
	__u32 tier = j->tier;

	if (j->reason != REASON_ISSUED || !j->routed || tier >= MAX_TIERS || j->route.pool >= MAX_POOLS)
		return 0;
	if (site->shares && is_translated(site, j->route.pool, 6)) /* it may be another dispatcher's */
		return 0;
	/* With both a token of the first would be taken when the second has none. */
	return !(site->tiers[tier].drop | !!site->tiers[tier].debt | (site->tiers[tier].interval && is_policed(site, tier)));
}

/* Records the flow of work.packet, which is let in, and forwards it; an XDP action, or LEFT. */
static __always_inline int open_flow(struct xdp_md *ctx, struct work *w, const struct site *site,
				     const struct config *c, struct lanes *l, __u32 session_seconds)
{
	struct address_verdict *j = &w->address_verdict;
	struct straight *head = straight_bytes(ctx);
	const struct server *server;
	struct hop *hop;
	__u64 hash, *full;
	__u32 number;

	if (!head || j->route.pool >= MAX_POOLS)
		return LEFT;
	hash = sticky_hash(w, site, j, site->pools[j->route.pool].stickiness);
	number = pick(w, site, j->route.pool, 6, hash);
	if (number >= MAX_SERVERS)
		return LEFT;
	opaque(number);
	number &= MAX_SERVERS - 1;
	server = &site->servers[number];
	if ((server->mode == MODE_NAT) | (straight_size(head) > server->path_mtu))
		return LEFT;
	hop = straight_hop(number, w->now);
	if (!hop)
		return LEFT;
	if (site->tiers[j->tier & (MAX_TIERS - 1)].interval && take_rate(j->tier)) /* over the rate: no token is taken */
		return LEFT;
	if (is_policed(site, j->tier)) {
		full = known_bucket(site, &w->packet.key, j->client, j->tier);
		if (!full || !conforms(full, &site->tiers[j->tier & (MAX_TIERS - 1)], straight_size(head), w->now))
			return LEFT;
	}
	forward_to(&w->verdict, site, number << 8 | j->route.dscp, REASON_ISSUED, hash);
	w->dscp = j->route.dscp;
	w->client = j->client;
	record_flow(w, site, l, session_seconds);
	if (w->client && !w->counted)
		count_usage();
	count_straight(ctx, ACTION_FORWARD, REASON_ISSUED);
	if (c->trace)
		trace(REASON_ISSUED, ACTION_FORWARD, number, 0);
	return send_straight(ctx, head, site, server, j->route.dscp, hash, hop);
}

/* Decides the first packet of a flow; an XDP action, or LEFT. */
static __noinline int follow_opening(struct xdp_md *ctx, struct work *w, const struct site *site,
				     const struct config *c, __u32 flags)
{
	struct address_verdict *j = &w->address_verdict;
	struct straight *head = straight_bytes(ctx);
	struct lanes *l = lanes_now();
	const struct cluster *cluster;
	const struct epoch *e;
	struct wide address;
	__u32 number, slot, *filter;
	int action;

	if (!head || !l)
		return LEFT;
	begin(w, site, head, flags);
	if (!goes_to(w->cluster, site, &w->packet.key)) {
		action = turn_to(ctx, &w->cluster, site, head);
		if (action)
			return action;
	}
	number = w->cluster;
	if (number >= MAX_CLUSTERS)
		return LEFT;
	cluster = &site->clusters[number];
	if (is_nobodys(cluster, &w->packet.key))
		return LEFT;
	w->address_hash = address_hash(l, &w->packet.key);
	w->index_hash = index_hash(l, &w->packet.key);
	filter = filter_word(l, sweeps_of(l->phase), w->address_hash);
	address = wide_of(w->packet.key.destination);
	slot = slot_in(cluster, address);
	e = &cluster->epochs[slot];
	if (!filter || !e->present || is_proven(cluster, address) ||
	    (cluster->label_mac_bits && head->ip.word & bpf_htonl(0xfffff)))
		return LEFT;
	w->maybe_decoded = may_be_known(filter, w->address_hash);
	/* A crowded word says "perhaps" of every address, and forged ones are not to cost a read of the large maps. */
	if (w->maybe_decoded && is_crowded(*filter) && has_wrong_tag(cluster, e, address))
		w->maybe_decoded = 0;
	if (w->maybe_decoded) {
		w->flow_hash = key_hash6(&w->packet.key);
		read_ahead(w, site, l);
	}
	j->cluster = number;
	j->client = j->session = 0;
	j->single = j->unproven = j->reserved = j->routed = 0;
	w->network_known = 0;
	w->carrier = IN_VIP;
	if (w->maybe_decoded && verified_before(w, c, e, address)) {
		take_fields(j, &cluster->fields[IN_VIP], w->decoded.payload);
		j->route = w->decoded.route;
		j->routed = 1;
		set_address_verdict(j, REASON_ISSUED, w->decoded.tier);
		if (has_flow(w, site, filter))
			return LEFT;
	} else {
		if (address.hi == cluster->plain.hi && address.lo == cluster->plain.lo)
			return LEFT;
		if (has_wrong_tag(cluster, e, address)) {
			if (cluster->fallback_tier < MAX_TIERS || c->drops ||
			    (may_stray(site, c, *filter) && has_flow(w, site, filter)))
				return LEFT;
			return drop_straight(ctx, c, number, REASON_BAD_TAG);
		}
		if (cluster->identify_source || has_flow(w, site, filter) || !is_open(w, open_vip(slot, 0)))
			return LEFT;
		judge(slot, 0);
		w->flow_hash = key_hash6(&w->packet.key);
	}
	return lets_in(site, j) ? open_flow(ctx, w, site, c, l, cluster->session_seconds) : LEFT;
}
