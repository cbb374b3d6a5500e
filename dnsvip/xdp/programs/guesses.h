/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* How many bad proofs each source network has sent in the current time slot of a cluster, as
 * dnsvip/dispatcher/flows/guesses.py ("Guessing", dnsvip/address/README.md), and how many flows each client has opened
 * that are relayed (relay.h). */
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
	struct guesses *made;

	if (!w)
		return 0;
	name = guesser_of(w);
	made = bpf_map_lookup_elem(&guesses, &name);
	if (!made || made->number < MOST_GUESSES || made->ends <= w->seconds)
		return 0;
	count_side(SIDE_GUESS_REFUSED);
	return 1;
}

/* Counts one more of a guesser, in a slot of so many seconds; returns how many there have been before in it. */
static __noinline __u32 count_one(struct guesser *name, __u32 seconds, __u32 slot)
{
	struct guesses first = {.number = 1}, *made;

	if (!name || !slot)
		return 0;
	made = bpf_map_lookup_elem(&guesses, name);
	if (made && made->ends > seconds)
		return __sync_fetch_and_add(&made->number, 1);
	first.ends = (seconds / slot + 1) * slot;
	bpf_map_update_elem(&guesses, name, &first, BPF_ANY);
	return 0;
}

/* Whether one more relayed flow of the client of work.packet is recorded: in NEW_SECONDS as many as it may have uses. */
static __noinline int has_relayed_place(struct work *w)
{
	struct config *settled = settings();
	struct guesser name = {.cluster = NONE};
	struct guesses *made;

	if (!w || !settled)
		return 0;
	name.network = w->address_verdict.client;
	if (!name.network)
		return 1;
	made = bpf_map_lookup_elem(&guesses, &name);
	if (made && made->number >= settled->use_share && made->ends > w->seconds)
		return 0;
	count_one(&name, w->seconds, NEW_SECONDS);
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
	count_one(&name, w->seconds, site->clusters[w->address_verdict.cluster].slot_seconds);
	return 0;
}
