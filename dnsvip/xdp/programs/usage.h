/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What each client uses, as dnsvip/dispatcher/flows/usage.py. A flow counts in its own record, which its packets have in
 * the cache, from the packet on that opens it; that is added up when the flow goes, and when user space asks (ending.h).
 * What is counted nowhere but in the record includes the flow itself while `counted` is 0. */
#pragma once
#include "rows.h"

#define REST 0 /* the client that all are counted as for whom there is no space */

/* Adds to a client's usage. Always 0. */
__noinline int add_usage(__u64 client, __u64 packets, __u64 bytes, __u64 flows, __u64 drops)
{
	struct usage *used = bpf_map_lookup_elem(&usage, &client), none = {};

	if (!used) {
		bpf_map_update_elem(&usage, &client, &none, BPF_NOEXIST);
		used = bpf_map_lookup_elem(&usage, &client);
	}
	if (!used) {
		client = REST;
		used = bpf_map_lookup_elem(&usage, &client);
	}
	if (!used)
		return 0;
	if (packets) {
		__sync_fetch_and_add(&used->packets, packets);
		__sync_fetch_and_add(&used->bytes, bytes);
	}
	if (flows)
		__sync_fetch_and_add(&used->flows, flows);
	if (drops)
		__sync_fetch_and_add(&used->drops, drops);
	return 0;
}

/* Adds what a flow has counted since the last time to its client's usage. Always 0. */
__noinline int add_up(struct flow *flow)
{
	__u32 packets, before;
	__u64 bytes, more;

	if (!flow || !flow->client)
		return 0;
	packets = flow->packets;
	before = flow->counted;
	if (packets == before || __sync_val_compare_and_swap(&flow->counted, before, packets) != before)
		return 0;
	bytes = flow->bytes;
	more = bytes - flow->counted_bytes;
	flow->counted_bytes = bytes;
	/* signed: a packet that is counted here may be taken back just after (count_usage) */
	return add_usage(flow->client, (__s64)(__s32)(packets - before), more, !before, 0);
}

/* Counts in its record a flow that is recorded with the packet of work.packet, where `alone`; else the two are counted by
 * themselves. */
static __always_inline void count_in_record(struct work *w, struct flow *flow, int alone)
{
	flow->packets = 1;
	flow->counted = !alone;
	flow->bytes = alone ? w->packet.end - w->packet.network : 0;
	flow->counted_bytes = 0;
	w->counted = alone;
}

/* Counts the packet of a client, unless it has been forwarded and counted in its flow. Always 0. */
__noinline int count_usage(void)
{
	struct work *w = work();
	struct flow *flow;
	__u64 size;

	if (!w || w->verdict.reply)
		return 0;
	size = w->packet.end - w->packet.network;
	if (w->verdict.action == ACTION_FORWARD)
		return add_usage(w->client, 1, size, w->recorded, 0);
	flow = w->counted ? find_flow(&w->packet.key) : NULL;
	if (flow) { /* it was too big */
		flow->bytes -= size;
		if (w->recorded)
			flow->counted = flow->packets; /* by the next line */
		else
			flow->packets--;
	}
	return add_usage(w->client, 0, 0, w->recorded, 1);
}
