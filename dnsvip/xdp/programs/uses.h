/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The uses of proven addresses of clients with single use, as dnsvip/dispatcher/flows/uses.py: one client has at most
 * its share of them. */
#pragma once
#include "decode.h"

/* Takes one of a client's share of map `uses`; returns whether there was one left. */
static __noinline int take_share(__u64 *client)
{
	struct config *settled = settings();
	__u64 none = 0, *count;

	if (!settled || !client)
		return 0;
	count = bpf_map_lookup_elem(&use_shares, client);
	if (!count) {
		bpf_map_update_elem(&use_shares, client, &none, BPF_NOEXIST);
		count = bpf_map_lookup_elem(&use_shares, client);
	}
	if (!count)
		return 0;
	if (__sync_fetch_and_add(count, 1) < settled->use_share)
		return 1;
	__sync_fetch_and_sub(count, 1);
	return 0;
}

static __noinline int give_share_back(__u64 *client)
{
	__u64 *count = client ? bpf_map_lookup_elem(&use_shares, client) : NULL;

	if (count && *count)
		__sync_fetch_and_sub(count, 1);
	return 0;
}

/* Reserves the single use of a proven address, so that no other processor gives it away. Returns 1, 0 where the table
 * or the client's share of it is full, negative where another flow came first. */
static __noinline int reserve_use(struct work *w)
{
	struct used *before = bpf_map_lookup_elem(&uses, &w->use);
	__u64 client = w->address_verdict.client;

	w->use_made.key = w->packet.key;
	w->use_made.until = w->seconds;
	w->use_made.ended = w->again == AGAIN_ANSWERED || (w->packet.flags && !opens(&w->packet));
	w->use_made.client = client;
	if (before) { /* out of date, or of this flow: its entry stays with the client that has it */
		w->use_made.client = before->client;
		return is_replayed(w) ? -1 : 1;
	}
	if (!take_share(&client))
		return 0;
	if (!bpf_map_update_elem(&uses, &w->use, &w->use_made, BPF_NOEXIST)) {
		w->address_verdict.reserved = 1;
		return 1;
	}
	give_share_back(&client);
	return bpf_map_lookup_elem(&uses, &w->use) ? -1 : 0;
}

/* Takes a reservation back where the packet has opened no flow. */
static __noinline int release_use(struct work *w)
{
	__u64 client = w->use_made.client;

	if (w->address_verdict.reserved && !bpf_map_delete_elem(&uses, &w->use))
		give_share_back(&client);
	return 0;
}
