/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Which pool serves a flow, as dnsvip/dispatcher/routes.py: its client's own, else that of the first rule of its
 * cluster that fits, else its tier's. Each rule is one bit, so the time does not grow with their number. */
#pragma once
#include "cache.h"

static __always_inline __u64 mask_at(const struct site *site, __u32 number)
{
	opaque(number);
	return number < MAX_MASKS ? site->masks[number] : 0;
}

/* The mask of a value of a condition. */
static __always_inline __u64 mask_of(struct work *w, const struct site *site, const struct condition *c, __u64 value)
{
	__u64 *mask;

	if (c->first != NONE)
		return mask_at(site, c->first + value);
	w->value_key.table = c->table;
	w->value_key.value = value;
	mask = bpf_map_lookup_elem(&masks, &w->value_key);
	return mask ? *mask : c->others;
}

static __always_inline __u64 bits_of(const struct field *f, struct wide payload)
{
	return shifted(payload, f->shift & 127) & ~highest_bits(64 - f->bits);
}

/* The mask of the rules that the attributes of a client allow who is known by its network; NULL: it has none. Of the
 * cluster and client in work.address_verdict. */
static __always_inline __u64 *attributes_mask(const struct work *w)
{
	struct client_mask_key key = {.client = w->address_verdict.client, .cluster = w->address_verdict.cluster};

	return bpf_map_lookup_elem(&client_masks, &key);
}

/* The mask of the rules that the client and the attributes in work.payload allow. */
static __always_inline __u64 payload_mask(struct work *w, const struct site *site, const struct rules *r)
{
	__u64 mask = ~0ULL, *known;
	__u32 n;

	if (r->names_clients)
		mask &= mask_of(w, site, &r->client, w->address_verdict.client);
	known = w->by_network && r->conditions ? attributes_mask(w) : NULL;
	if (known)
		return mask & *known;
#pragma clang loop unroll(disable)
	for (n = 0; n < MAX_CONDITIONS; n++) {
		if (n >= r->conditions)
			break;
		mask &= mask_of(w, site, &r->condition[n],
				bits_of(&r->condition[n].field[w->carrier & 1], w->payload));
	}
	return mask;
}

/* Sets the route of work.address_verdict, whose cluster and tier are set. `own`: the client's own pool, of an accepted
 * address; a set of servers counts while one of them takes new flows. Always 0. (Global, so that the kernel verifies
 * it by itself, once.) */
__noinline int find_route(__u32 own, __u32 evidence)
{
	struct site *site = current_site();
	struct work *w = work();
	struct address_verdict *j;
	__u32 cluster, tier, n;
	const struct rules *r;
	__u64 mask;

	if (!site || !w)
		return 0;
	j = &w->address_verdict;
	cluster = j->cluster;
	tier = j->tier;
	if (cluster >= MAX_CLUSTERS || tier >= MAX_TIERS)
		return 0;
	j->routed = 1;
	j->route.dscp = site->tiers[tier].dscp;
	if (own < MAX_POOLS && (!site->pools[own].own ||
				(w->packet.version == 4 ? site->pools[own].ring4 : site->pools[own].ring6) != NONE)) {
		j->route.pool = own;
		j->route.rule = RULE_OWN;
		return 0;
	}
	j->route.pool = site->tiers[tier].pool; /* NONE becomes NO_POOL */
	j->route.rule = 0;
	r = &site->clusters[cluster].rules;
	if (!r->count)
		return 0;
	opaque(evidence);
	mask = r->evidence[evidence & 7];
	if (r->tiers != NONE)
		mask &= mask_at(site, r->tiers + tier);
	mask &= evidence == EVIDENCE_PLAIN ? r->nobody : payload_mask(w, site, r);
	if (!mask)
		return 0;
	n = __builtin_ctzll(mask);
	opaque(n);
	if (n >= MAX_RULES)
		return 0;
	j->route.pool = r->routes[n].pool;
	if (r->routes[n].dscp != NO_DSCP)
		j->route.dscp = r->routes[n].dscp;
	j->route.rule = n + 1;
	return 0;
}

/* Sets the priority of a flow with the route of work.address_verdict: of the rule that decided, or else of its tier.
 * Always 0. (Global, so that the kernel verifies it by itself, once.) */
__noinline int find_priority(void)
{
	struct site *site = current_site();
	struct work *w = work();
	__u32 cluster, tier, n;

	if (!site || !w)
		return 0;
	w->priority = 0;
	cluster = w->address_verdict.cluster;
	tier = w->address_verdict.tier;
	n = w->address_verdict.route.rule - 1;
	if (cluster >= MAX_CLUSTERS || tier >= MAX_TIERS)
		return 0;
	opaque(n);
	w->priority = n < MAX_RULES ? site->clusters[cluster].rules.priorities[n] : NO_PRIORITY;
	if (w->priority == NO_PRIORITY)
		w->priority = site->tiers[tier].priority;
	return 0;
}

/* As `find_priority`, also where all flows have the same one. */
static __always_inline void set_priority(struct work *w, const struct site *site)
{
	if (site->ranked)
		find_priority();
	else
		w->priority = site->lowest;
}

/* Sets the route of an address that says nothing about its client, or is let in by a default tier. */
static __always_inline void route_plain(struct work *w)
{
	if (!w->address_verdict.routed)
		find_route(NO_POOL, EVIDENCE_PLAIN);
}
