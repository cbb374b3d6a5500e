/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* A Bloom filter (1970) of what is in the tables: two bits for each known flow and each cached address, and for some
 * that have gone since the last sweep. Where not both bits are set, the flow or address is not there, at the cost of
 * one read of a small map: an address and all flows to it share one word. An address with many flows thus answers
 * "perhaps" to every other flow. There are two filters, one behind the other: one is read while a sweep rebuilds the
 * other.
 *
 * New flows come faster than sweeps, and a filter full of bits answers nothing. One bit of each word is therefore a
 * mark: there may be a flow to a forged address, such as by a default tier, or from before the site's keys changed.
 * Where a word is crowded and not marked, the tag is verified first, and a forged address needs no table. */
#pragma once
#include "work.h"

#define STRAY (1U << 31) /* the mark */
#define CROWDED 24 /* of the other 31 bits: more than half of the answers are "perhaps" by chance */

static __always_inline struct lanes *lanes_now(void)
{
	return &lanes;
}

typedef __u32 __attribute__((may_alias)) half_key;

/* One word of the NH hash (Black and others, UMAC, 1999): without the key nobody can construct a collision. (Both halves of
 * the key are read as such, which saves shifts.) */
static __always_inline __u64 nh(__u64 word, const __u64 *key)
{
	const half_key *half = (const half_key *)key;
	__u32 low = (__u32)word + half[0], high = (__u32)(word >> 32) + half[1];

	return (__u64)low * high;
}

static __always_inline __u64 mixed(__u64 h, __u64 key)
{
	h = (h ^ h >> 32) * (key | 1);
	return h ^ h >> 32;
}

static __always_inline __u64 address_sum(const struct lanes *l, const struct flow_key *k)
{
	return nh(k->destination[0], &l->key[0]) + nh(k->destination[1], &l->key[1]);
}

/* The hash of a flow's destination. */
static __always_inline __u64 address_hash(const struct lanes *l, const struct flow_key *k)
{
	return mixed(address_sum(l, k), l->key[5]);
}

/* The hash of a flow's whole key. */
static __always_inline __u64 index_hash(const struct lanes *l, const struct flow_key *k)
{
	__u64 last = k->source_port | (__u64)k->destination_port << 16 | (__u64)k->protocol << 32;

	return mixed(address_sum(l, k) + nh(k->source[0], &l->key[2]) + nh(k->source[1], &l->key[3]) +
			     nh(last, &l->key[4]),
		     l->key[5]);
}

/* The number of sweeps so far. The phase counts by two; its lowest bit says that a sweep is running. */
static __always_inline __u32 sweeps_of(__u32 phase)
{
	return phase >> 1;
}

/* The lines of a filter, less one: 32 rows of the index share a line. */
static __always_inline __u32 filter_mask(const struct lanes *l)
{
	return l->row_mask >> 5;
}

/* A line of the filter that is read after so many sweeps. */
static __always_inline struct filter_line *filter_line(const struct lanes *l, __u32 sweeps, __u32 number)
{
	number += sweeps & 1 ? filter_mask(l) + 1 : 0;
	return bpf_map_lookup_elem(&filters, &number);
}

/* The word shared by an address and the flows to it. */
static __always_inline __u32 *filter_word(const struct lanes *l, __u32 sweeps, __u64 address)
{
	struct filter_line *line = filter_line(l, sweeps, address >> 4 & filter_mask(l));

	return line ? &line->words[address & 15] : NULL;
}

static __always_inline __u32 filter_bits(__u64 hash)
{
	return (1U << (hash >> 59) | 1U << (hash >> 54 & 31)) & ~STRAY;
}

static __always_inline int may_be_known(const __u32 *word, __u64 hash)
{
	return !(~*word & filter_bits(hash));
}

static __always_inline int is_crowded(__u32 word)
{
	return !(word & STRAY) && __builtin_popcount(word) >= CROWDED;
}

static __always_inline void filter_set(const struct lanes *l, __u32 sweeps, __u64 address, __u32 bits)
{
	__u32 *word = filter_word(l, sweeps, address);

	if (word && ~*word & bits)
		__sync_fetch_and_or(word, bits);
}

static __always_inline __u32 phase_now(const struct lanes *l)
{
	return *(volatile __u32 *)&l->phase;
}

/* Adds an indexed flow or a cached address; while a sweep runs, to both filters, as the sweep may have passed it by.
 * Returns the phase. A sweep that starts later sees what is complete by then, so the caller that completes a flow
 * adds it again if the phase has changed. */
static __always_inline __u32 filter_add(const struct lanes *l, __u64 address, __u32 bits)
{
	__u32 phase = phase_now(l);

	filter_set(l, sweeps_of(phase), address, bits);
	if (phase & 1)
		filter_set(l, sweeps_of(phase) + 1, address, bits);
	return phase;
}
