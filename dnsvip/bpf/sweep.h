/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Gives back the memory of what has expired. Nothing expired is ever used, so how often this runs decides no verdict.
 * Run by hand (feed.py). */
#pragma once
#include "flow.h"

struct sweep {
	__u32 now; /* unix seconds */
	__u32 expired;
	__u32 all; /* forget everything, expired or not */
	__u32 unused;
};

static long sweep_flow(void *map, struct flow_key *key, struct flow *flow, struct sweep *s)
{
	struct flow_key name;

	if (s->all || is_idle(flow, s->now)) {
		name = *key;
		forget(&name);
		s->expired++;
	}
	return 0;
}

static long sweep_use(void *map, struct use_key *key, struct remembered *use, struct sweep *s)
{
	if (s->all || use->until < s->now)
		bpf_map_delete_elem(&uses, key);
	return 0;
}

static long sweep_fragment(void *map, struct fragment_key *key, struct remembered *first, struct sweep *s)
{
	if (s->all || first->until < s->now)
		bpf_map_delete_elem(&fragments, key);
	return 0;
}

/* Replies whose flow is gone. */
static long sweep_reply(void *map, struct flow_key *key, struct flow_key *forward, struct sweep *s)
{
	struct flow_key name = *forward;

	if (s->all || !find_flow(&name))
		bpf_map_delete_elem(&replies, key);
	return 0;
}

SEC("syscall")
int sweep(struct sweep *order)
{
	struct sweep s = *order;

	bpf_for_each_map_elem(&flows, sweep_flow, &s, 0);
	bpf_for_each_map_elem(&replies, sweep_reply, &s, 0);
	bpf_for_each_map_elem(&uses, sweep_use, &s, 0);
	bpf_for_each_map_elem(&fragments, sweep_fragment, &s, 0);
	return s.expired;
}
