/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Ends known flows of clients that are disabled, revoked or deleted, and of tiers that drop, where that was asked for
 * (dispatcher/ending.py). User space calls it when the site has changed. */
#pragma once
#include "flow.h"

struct ending {
	__u32 first; /* record */
	__u32 count;
};

static __always_inline int is_ended_tier(const struct site *site, __u32 tier)
{
	return tier < MAX_TIERS && site->tiers[tier].drop && site->tiers[tier].end_flows;
}

static __always_inline int is_known_tier(const struct site *site, __u32 tier)
{
	return tier < MAX_TIERS && site->tiers[tier].present;
}

/* The mark that a flow is to have. One that it has stays while its client or tier has been lost. */
static __always_inline __u32 mark_of(const struct site *site, const struct flow *flow)
{
	__u64 id = flow->client;
	struct client *client = id ? bpf_map_lookup_elem(&clients, &id) : NULL;
	int lost = client && !is_known_tier(site, client->tier);

	if (client ? client->ended || (lost && flow->owner & CLIENT_ENDED) : flow->owner & CLIENT_ENDED)
		return CLIENT_ENDED;
	if (is_ended_tier(site, flow->tier) || (client && is_ended_tier(site, client->tier)))
		return TIER_ENDED;
	return lost || !is_known_tier(site, flow->tier) ? flow->owner & TIER_ENDED : 0;
}

static long settle_record(__u32 n, struct ending *order)
{
	struct flow *flow = record_at(order->first + n);
	struct site *site = current_site();
	__u32 owner;

	if (!flow || !site)
		return 1;
	if (flow->state == FLOW_NONE)
		return 0;
	add_up(flow);
	owner = (flow->owner & ~ENDED) | mark_of(site, flow);
	if (owner == flow->owner)
		return 0;
	flow->owner = owner;
	flow->closing = (flow->closing & ~CLOSED_BY_END) | (owner & ENDED ? CLOSED_BY_END : 0);
	return 0;
}

/* Adds up what flows have counted; marks and unmarks them, new ones first: one that is established meanwhile takes its mark along. */
SEC("syscall")
int end_flows(struct ending *order)
{
	struct ending own = *order;

	bpf_loop(own.count, settle_record, &own, 0);
	return 0;
}
