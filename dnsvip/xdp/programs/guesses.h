/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* How many bad proofs each source network has sent in the current time slot of a cluster, as
 * dnsvip/dispatcher/flows/guesses.py ("Guessing", dnsvip/address/README.md), and how many flows each client has opened
 * that are relayed (relay.h), as dnsvip/dispatcher/relaying.py. */
#pragma once
#include "work.h"

#define MOST_GUESSES 64

static __always_inline struct guesser guesser_of(const struct work *w)
{
	struct guesser name = {.network = w->packet.key.source[0], .cluster = w->address_verdict.cluster};

	return name;
}

/* Whether the network of work.packet's source has no proof left in this slot; counts it where that is so. */
__noinline int has_guessed_enough(void)
{
	struct work *w = work();
	struct guesser name;
	struct slot_count *made;

	if (!w)
		return 0;
	name = guesser_of(w);
	made = bpf_map_lookup_elem(&guesses, &name);
	if (!made || made->number < MOST_GUESSES || made->ends <= w->seconds)
		return 0;
	count_side(SIDE_GUESS_REFUSED);
	return 1;
}

/* Counts one more of a key, in a slot of so many seconds. */
static __always_inline void count_one(void *map, const void *key, __u32 seconds, __u32 slot)
{
	struct slot_count first = {.number = 1}, *made;

	if (!slot)
		return;
	made = bpf_map_lookup_elem(map, key);
	if (made && made->ends > seconds) {
		__sync_fetch_and_add(&made->number, 1);
		return;
	}
	first.ends = (seconds / slot + 1) * slot;
	bpf_map_update_elem(map, key, &first, BPF_ANY);
}

/* Whether one more relayed flow of the client of work.packet is recorded: in NEW_SECONDS as many as it may have uses. */
static __noinline int has_relayed_place(struct work *w)
{
	struct config *settled = settings();
	struct slot_count *made;
	__u64 client;

	if (!w || !settled)
		return 0;
	client = w->address_verdict.client;
	if (!client)
		return 1;
	made = bpf_map_lookup_elem(&relayed, &client);
	if (made && made->number >= settled->use_share && made->ends > w->seconds)
		return 0;
	count_one(&relayed, &client, w->seconds, NEW_SECONDS);
	return 1;
}

/* Counts the bad proof of work.packet. Always 0. */
__noinline int count_guess(void)
{
	struct site *site = current_site();
	struct work *w = work();
	struct guesser name;

	if (!site || !w || w->address_verdict.cluster >= MAX_CLUSTERS)
		return 0;
	name = guesser_of(w);
	count_one(&guesses, &name, w->seconds, site->clusters[w->address_verdict.cluster].slot_seconds);
	return 0;
}
