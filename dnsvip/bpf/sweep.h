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
	__u32 now;
	__u32 all;
	__u32 expired;
	__u32 half; /* of the filter: the one being made */
};

static long clear_word(__u64 number, __u32 *half)
{
	__u64 *word = filter_word(number << 12);

	if (word)
		__sync_fetch_and_and(word, *half ? 0xffffffffULL : ~0xffffffffULL);
	return 0;
}

static long sweep_row(void *map, __u32 *number, struct row *row, struct sweeping *s)
{
	struct lanes *l = lanes_now();
	struct flow *flow;
	struct row *beside;
	__u64 hash;
	int n;

	if (!l)
		return 1;
	for (n = 0; n < WORDS; n++) {
		__u64 word = row->words[n];

		if (!word)
			continue;
		if (is_free(l, word)) {
			__sync_val_compare_and_swap(&row->words[n], word, 0);
			continue;
		}
		flow = record_of(l, word);
		if (!flow || flow->word != word)
			continue;
		if (s->all || is_idle(flow, s->now)) {
			s->expired += forget(flow);
			continue;
		}
		hash = index_hash(l, &flow->key);
		filter_add(hash, filter_bit(hash, s->half));
		if (word & DISPLACED) {
			beside = row_at(*number ^ 1);
			if (beside)
				beside->words[MARK] = l->sweeps + 1;
		}
	}
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

	if (!l)
		return -1;
	s.half = (l->sweeps + 1) & 1;
	bpf_loop(entries_of(&filters), clear_word, &s.half, 0);
	bpf_for_each_map_elem(&rows, sweep_row, &s, 0);
	l->sweeps++;
	bpf_for_each_map_elem(&replies, sweep_reply, &s, 0);
	bpf_for_each_map_elem(&uses, sweep_use, &s, 0);
	bpf_for_each_map_elem(&fragments, sweep_fragment, &s, 0);
	return s.expired;
}

/* Forgets one flow; whether it was there. Run by hand, as `adopt` is. */
SEC("syscall")
int purge(struct flow_key *key)
{
	struct flow_key name = *key;
	struct flow *flow = find_flow(&name);

	return flow && forget(flow);
}

/* Takes in a flow of another table, such as one of another size; whether it was not here already. */
SEC("syscall")
int adopt(struct flow *from)
{
	struct lanes *l = lanes_now();
	struct flow_key key = from->key;
	struct site *site = current_site();
	struct slot slot;
	__u64 hash;

	if (!l || !site)
		return 0;
	hash = index_hash(l, &key);
	if (look_up(l, &key, hash) || !next_slot(l, site, hash, &slot))
		return 0;
	*slot.flow = *from;
	slot.flow->place = slot.place;
	slot.flow->state = FLOW_NEW;
	slot.flow->word = slot.word;
	if (from->state == FLOW_ESTABLISHED)
		establish(l, slot.flow);
	return 1;
}
