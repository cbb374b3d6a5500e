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

/* A sweep under way. */
struct sweeping {
	__u64 established; /* left */
	__u64 gone;        /* established before, and forgotten: counted off already */
	__u32 now;
	__u32 all;
	__u32 expired;
	__u32 half; /* of the filter: the one being made */
};

static long sweep_flow(void *map, struct flow_key *key, struct flow *flow, struct sweeping *s)
{
	struct flow_key name;

	if (s->all || is_idle(flow, s->now)) {
		name = *key;
		s->gone += !flow->fresh;
		forget(&name);
		s->expired++;
	} else {
		filter_add(filter_hash(key), s->half);
		s->established += !flow->fresh;
	}
	return 0;
}

static long clear_word(__u64 number, struct sweeping *s)
{
	__u64 *word = filter_word(number << 6, s->half);

	if (word)
		*word = 0;
	return 0;
}

static long sweep_use(void *map, struct use_key *key, struct remembered *use, struct sweeping *s)
{
	if (s->all || use->until < s->now)
		bpf_map_delete_elem(&uses, key);
	return 0;
}

static long sweep_fragment(void *map, struct fragment_key *key, struct remembered *first, struct sweeping *s)
{
	if (s->all || first->until < s->now)
		bpf_map_delete_elem(&fragments, key);
	return 0;
}

/* Replies whose flow is gone. */
static long sweep_reply(void *map, struct flow_key *key, struct flow_key *forward, struct sweeping *s)
{
	struct flow_key name = *forward;

	if (s->all || !find_flow(&name))
		bpf_map_delete_elem(&replies, key);
	return 0;
}

SEC("syscall")
int sweep(struct sweep *order)
{
	struct lanes *l = lanes_now();
	struct sweeping s = {.now = order->now, .all = order->all};
	__u64 before;

	if (!l)
		return -1;
	s.half = !l->filter;
	before = l->established;
	bpf_loop(entries_of(&filters) / 2, clear_word, &s, 0);
	bpf_for_each_map_elem(&flows, sweep_flow, &s, 0);
	l->filter = s.half;
	__sync_fetch_and_add(&l->established, s.established - before + s.gone);
	bpf_for_each_map_elem(&replies, sweep_reply, &s, 0);
	bpf_for_each_map_elem(&uses, sweep_use, &s, 0);
	bpf_for_each_map_elem(&fragments, sweep_fragment, &s, 0);
	return s.expired;
}
