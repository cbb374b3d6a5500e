/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Frees expired entries and rebuilds the filter. Nothing expired is ever used, so no verdict depends on when this
 * runs. User space calls it (map_writer.py). */
#pragma once
#include "decode.h"
#include "flow.h"
#include "fragments.h"
#include "uses.h"

#define BUSY (-16) /* EBUSY */

struct sweep {
	__u32 now; /* unix seconds */
	__u32 expired;
	__u32 all; /* remove everything, expired or not */
	__u32 outside; /* flows that go to no cluster, and stay */
};

/* A running sweep. */
struct sweeping {
	__u32 now;
	__u32 all;
	__u32 expired;
	__u32 sweeps;  /* the number of this sweep */
	__u32 cluster; /* of the flow before */
	__u32 outside;
};

static long clear_line(__u32 number, struct sweeping *s)
{
	struct lanes *l = lanes_now();
	struct filter_line *line = l ? filter_line(l, s->sweeps, number) : NULL;

	if (line)
		__builtin_memset(line, 0, sizeof(*line));
	return 0;
}

/* Whether a flow's address is forged, by the site of now. (These programs may not look into map `prefixes6`: the
 * kernel refuses it to programs that may sleep.) `last`: the cluster of the flow before. */
__noinline int goes_astray(struct flow_key *key, __u32 *last)
{
	struct site *site = current_site();
	__u32 n;

	if (!site || !key || !last)
		return 0;
	n = *last;
	if (n >= MAX_CLUSTERS || !has_prefix_of(&site->clusters[n], key)) {
		for (n = 0; n < MAX_CLUSTERS; n++)
			if (has_prefix_of(&site->clusters[n], key))
				break;
		*last = n;
	}
	return is_forged(key, n);
}

static long sweep_row(void *map, __u32 *number, struct row *row, struct sweeping *s)
{
	struct lanes *l = lanes_now();
	struct flow *flow;
	struct row *beside;
	__u32 bits;
	int n;

	if (!l)
		return 1;
	for (n = 0; n < WORDS; n++) {
		__u32 word = row->words[n];

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
		bits = filter_bits(index_hash(l, &flow->key));
		if (goes_astray(&flow->key, &s->cluster))
			bits |= STRAY;
		s->outside += s->cluster >= MAX_CLUSTERS;
		filter_set(l, s->sweeps, address_hash(l, &flow->key), bits);
		if (word & DISPLACED) {
			beside = row_at(*number ^ 1);
			if (beside)
				beside->words[MARK] = s->sweeps;
		}
	}
	return 0;
}

/* Adds a cached address that is still valid to the new filter. */
static long sweep_decoded(void *map, __u32 *number, struct decoded *d, struct sweeping *s)
{
	struct config *settled = settings();
	struct lanes *l = lanes_now();
	struct flow_key key = {};
	__u64 hash;

	if (!l || !settled)
		return 1;
	if (!d->generation || d->generation != settled->generation)
		return 0;
	key.destination[0] = bpf_cpu_to_be64(d->address.hi);
	key.destination[1] = bpf_cpu_to_be64(d->address.lo);
	hash = address_hash(l, &key);
	filter_set(l, s->sweeps, hash, filter_bits(hash));
	return 0;
}

static long sweep_use(void *map, struct use_key *key, struct used *use, struct sweeping *s)
{
	__u64 client = use->client;

	if ((s->all || use->until < s->now) && !bpf_map_delete_elem(&uses, key))
		give_share_back(&client);
	return 0;
}

/* A packet that takes a share at this moment may leave its client with one less than it has: no more than that. */
static long sweep_share(void *map, __u64 *client, __u64 *count, struct sweeping *s)
{
	if (s->all || !*count)
		bpf_map_delete_elem(&use_shares, client);
	return 0;
}

static long sweep_guess(void *map, struct guesser *name, struct slot_count *made, struct sweeping *s)
{
	if (s->all || made->ends <= s->now)
		bpf_map_delete_elem(&guesses, name);
	return 0;
}

static long sweep_relayed(void *map, __u64 *client, struct slot_count *opened, struct sweeping *s)
{
	if (s->all || opened->ends <= s->now)
		bpf_map_delete_elem(&relayed, client);
	return 0;
}

static long sweep_fragment(void *map, struct fragment_key *key, struct remembered *first, struct sweeping *s)
{
	if (s->all || first->until < s->now)
		bpf_map_delete_elem(&fragments, key);
	else
		mark_first(key, first->until); /* its program may be an earlier one, without marks */
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

/* Returns how many flows were removed; BUSY while another sweep runs. */
SEC("syscall")
int sweep(struct sweep *order)
{
	struct lanes *l = lanes_now();
	struct sweeping s = {.now = order->now, .all = order->all, .cluster = NONE};
	__u32 phase = l ? l->phase : 1;

	if (phase & 1 || __sync_val_compare_and_swap(&l->phase, phase, phase + 1) != phase)
		return BUSY;
	s.sweeps = sweeps_of(phase) + 1;
	bpf_loop(filter_mask(l) + 1, clear_line, &s, 0);
	bpf_for_each_map_elem(&rows, sweep_row, &s, 0);
	bpf_for_each_map_elem(&decoded, sweep_decoded, &s, 0);
	__sync_fetch_and_add(&l->phase, 1);
	bpf_for_each_map_elem(&replies, sweep_reply, &s, 0);
	bpf_for_each_map_elem(&uses, sweep_use, &s, 0);
	bpf_for_each_map_elem(&use_shares, sweep_share, &s, 0);
	bpf_for_each_map_elem(&fragments, sweep_fragment, &s, 0);
	bpf_for_each_map_elem(&guesses, sweep_guess, &s, 0);
	bpf_for_each_map_elem(&relayed, sweep_relayed, &s, 0);
	order->outside = s.outside;
	return s.expired;
}

/* The ticks that `read_clock` counts, and the monotonic clock. */
struct clocks {
	__u64 ticks;
	__u64 monotonic; /* nanoseconds */
};

SEC("syscall")
int read_clocks(struct clocks *now)
{
	now->ticks = bpf_jiffies64();
	now->monotonic = bpf_ktime_get_ns();
	return 0;
}

/* Removes one flow; returns whether there was one. User space calls it, and `adopt`. */
SEC("syscall")
int purge(struct flow_key *key)
{
	struct flow_key name = *key;
	struct flow *flow = find_flow(&name);

	return flow && forget(flow);
}

/* Inserts a flow of another table, such as one of another size; returns whether it was new here. */
SEC("syscall")
int adopt(struct flow *from)
{
	struct lanes *l = lanes_now();
	struct flow_key key = from->key;
	struct site *site = current_site();
	struct slot slot;
	__u32 cluster = NONE;
	__u64 hash;

	if (!l || !site)
		return 0;
	hash = index_hash(l, &key);
	if (look_up(l, &key, hash) || !next_slot(l, site, address_hash(l, &key), hash,
						goes_astray(&key, &cluster), priority_of(from), from->seen, &slot))
		return 0;
	*slot.flow = *from;
	slot.flow->place = slot.place;
	slot.flow->state = FLOW_NEW;
	complete(l, &slot, address_hash(l, &key));
	if (from->state == FLOW_ESTABLISHED)
		establish(l, slot.flow);
	return 1;
}
