/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Which client a packet's source identifies, as dnsvip/dispatcher/verify/networks.py. Map `networks` has every prefix
 * of clients, and `network_lengths` the lengths to look for: those of the step that comes first before those of the
 * other, the longest first. The first one that is there decides. */
#pragma once
#include "routes.h"

/* Looks for the network around the source of work.packet, once a packet: its client into work.network. Always 0.
 * (Global, as the functions below, so that the kernel verifies it by itself, once.) */
__noinline int find_network(void)
{
	struct network_key key = {};
	struct network_lengths *known;
	struct work *w = work();
	struct wide source;
	__u32 zero = 0, four, n;
	__u64 *client;

	if (!w || w->network_known)
		return 0;
	w->network_known = 1;
	w->network = 0;
	known = bpf_map_lookup_elem(&network_lengths, &zero);
	if (!known)
		return 0;
	source = wide_of(w->packet.key.source);
	four = w->packet.key.version == 4;
#pragma clang loop unroll(disable)
	for (n = 0; n < NETWORK_LENGTHS; n++) {
		__u32 order, bits, low;

		if (n >= known->count[four])
			break;
		order = known->order[four][n];
		bits = order & 255;
		key.kind = order >> 8;
		key.length = bits;
		low = (bits - 64) & -(bits >> 6);
		key.address.hi = source.hi & highest_bits(bits - low);
		key.address.lo = source.lo & highest_bits(low);
		client = bpf_map_lookup_elem(&networks, &key);
		if (client) {
			w->network = *client;
			break;
		}
	}
	return 0;
}

/* The record of the client that the source of work.packet identifies; NULL where there is none that is in force. */
static __always_inline struct client *network_client(struct work *w)
{
	struct client *client;

	find_network();
	client = w->network ? bpf_map_lookup_elem(&clients, &w->network) : NULL;
	return client && client->enabled ? client : NULL;
}

/* Whether the source of work.packet identifies the client of an address, or one of the tier where no address of the
 * cluster names a client. */
__noinline int is_at_home(__u32 tier)
{
	struct site *site = current_site();
	struct work *w = work();
	struct client *client;
	__u32 cluster;

	if (!site || !w)
		return 0;
	cluster = w->address_verdict.cluster;
	client = network_client(w);
	if (!client || cluster >= MAX_CLUSTERS)
		return 0;
	if (site->clusters[cluster].fields[w->carrier & 1].client.bits)
		return w->network == w->address_verdict.client;
	return client->tier == tier;
}

/* Makes the flow of work.packet that of the client whose network it comes from, where its cluster asks for it.
 * `keeps`: the payload of its address counts, else the client's attributes do. Returns 0 where it is nobody's, or that of a client that has to prove
 * itself. */
__noinline int identify_source(__u32 keeps)
{
	struct site *site = current_site();
	struct work *w = work();
	struct address_verdict *j;
	struct client *client;
	__u32 cluster, tier;

	if (!site || !w)
		return 0;
	j = &w->address_verdict;
	cluster = j->cluster;
	if (cluster >= MAX_CLUSTERS || !site->clusters[cluster].identify_source)
		return 0;
	client = network_client(w);
	if (!client || client->proof_required)
		return 0;
	tier = client->tier != NONE ? client->tier : site->clusters[cluster].default_tier;
	if (tier >= MAX_TIERS || site->tiers[tier].require_proof)
		return 0;
	if (!keeps)
		w->payload.hi = w->payload.lo = 0;
	j->client = w->network;
	j->tier = tier;
	j->reason = REASON_SOURCE_NETWORK;
	j->unproven = 0;
	w->by_network = !keeps;
	find_route(client->pool, EVIDENCE_SOURCE);
	w->by_network = 0;
	return 1;
}
