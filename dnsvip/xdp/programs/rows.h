/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The index of flow records: an open hash table of words, fifteen to a cache line: looking up an unknown key reads
 * one line, and inserting it no other.
 *
 *   31 displaced | 30 established | 29 set | bits of the key's hash | number
 *
 * The number of an established flow is its place; that of a new one is its sequence number among new flows. As these
 * are a ring, a word shows by itself that its flow was evicted, and is free without having been cleared. (Sequence
 * numbers wrap: a word that then seems valid costs a look at another flow's record, and goes with the next sweep.) A
 * key whose own row is full is displaced to the adjacent row, and its own row is marked; a mark is valid until the
 * second sweep after. */
#pragma once
#include "filter.h"

#define WORDS 15
#define MARK 15 /* the column of the mark: the sweep when a key was displaced */
#define COLUMN_BITS 4
#define DISPLACED (1U << 31)
#define ESTABLISHED (1U << 30)
#define IN_USE (1U << 29) /* so that no word is 0 */

/* An index word without its number. */
static __always_inline __u32 tag_of(const struct lanes *l, __u64 hash)
{
	return IN_USE | ((hash >> 32) & (IN_USE - 1) & ~l->number_mask);
}

/* How many new flows have been recorded since a word's flow, which is included. */
static __always_inline __u32 age(const struct lanes *l, __u32 word)
{
	return ((__u32)l->cursor - word) & l->number_mask;
}

static __always_inline int is_free(const struct lanes *l, __u32 word)
{
	return !word || (!(word & ESTABLISHED) && age(l, word) - 1 >= l->new_places);
}

static __always_inline struct flow *record_at(__u32 number)
{
	return bpf_map_lookup_elem(&flows, &number);
}

/* The number of the record that a word points to. */
static __always_inline __u32 number_of(const struct lanes *l, __u32 word)
{
	if (word & ESTABLISHED)
		return l->new_places + (word & l->number_mask);
	return (l->cursor - age(l, word)) % l->new_places;
}

static __always_inline struct flow *record_of(const struct lanes *l, __u32 word)
{
	return record_at(number_of(l, word));
}

/* One branch: a processor that meets each of many for the first time guesses half of them wrong. */
static __always_inline int is_same(const struct flow_key *a, const struct flow_key *b)
{
	const __u64 *x = (const void *)&a->source_port, *y = (const void *)&b->source_port; /* to the end; `zero` is */
	__u64 difference = (a->source[1] ^ b->source[1]) | (a->destination[1] ^ b->destination[1]) |
			   (a->source[0] ^ b->source[0]) | (a->destination[0] ^ b->destination[0]) | (*x ^ *y);

	opaque(difference); /* else clang makes a branch of each part */
	return !difference;
}

static __always_inline struct row *row_at(__u32 number)
{
	return bpf_map_lookup_elem(&rows, &number);
}

/* The column that a key's word is put into where it is free, and which is looked at first: else each look-up would find
 * its word after another number of steps, which no processor predicts. */
static __always_inline __u32 first_column(__u64 hash)
{
	return (hash >> 60) * WORDS >> 4;
}

/* The number of the record that a word of a row points to, of the flow with a key; NONE where its tag or its record is
 * another's. */
static __always_inline __u32 record_for(const struct lanes *l, __u32 word, __u32 tag, const struct flow_key *key)
{
	struct flow *flow;
	__u32 number;

	if ((word ^ tag) & ~(ESTABLISHED | l->number_mask) || is_free(l, word))
		return NONE;
	number = number_of(l, word);
	flow = record_at(number);
	return flow && flow->word == word && is_same(&flow->key, key) ? number : NONE;
}

/* As `record_for`, among the words of a row. */
static __always_inline __u32 record_in(const struct lanes *l, const struct row *row, __u32 tag,
				       const struct flow_key *key)
{
	__u32 number;
	int n;

#pragma clang loop unroll(disable)
	for (n = 0; n < WORDS; n++) {
		number = record_for(l, row->words[n], tag, key);
		if (number != NONE)
			return number;
	}
	return NONE;
}

static __always_inline int is_marked(const struct lanes *l, const struct row *row)
{
	return row->words[MARK] && (__s32)(sweeps_of(l->phase) - row->words[MARK]) <= 1;
}

/* The number of the record of the flow with a key that was displaced to the row beside its own; NONE where there is none.
 * (Global, as the function below, so that the kernel verifies it by itself, once.) */
__noinline __u32 displaced_record(__u32 home, __u32 tag, const struct flow_key *key)
{
	struct lanes *l = lanes_now();
	struct row *row = row_at(home ^ 1);

	return l && row && key ? record_in(l, row, tag | DISPLACED, key) : NONE;
}

/* The number of the record of the flow with a key and its hash; NONE where there is none. */
static __always_inline __u32 look_up_record(const struct lanes *l, const struct flow_key *key, __u64 hash)
{
	__u32 home = hash & l->row_mask, tag = tag_of(l, hash), number;
	struct row *row = row_at(home);

	if (!row)
		return NONE;
	number = record_in(l, row, tag, key);
	return number == NONE && is_marked(l, row) ? displaced_record(home, tag, key) : number;
}

/* The number of the record of the flow with a key; NONE where there is none. */
__noinline __u32 find_record(const struct flow_key *key)
{
	struct lanes *l = lanes_now();

	return l && key ? look_up_record(l, key, index_hash(l, key)) : NONE;
}

/* The flow with a key and its hash. (The map has no record NONE.) */
static __always_inline struct flow *look_up(const struct lanes *l, const struct flow_key *key, __u64 hash)
{
	return record_at(look_up_record(l, key, hash));
}

static __always_inline struct flow *find_flow(const struct flow_key *key)
{
	return record_at(find_record(key));
}

/* A free column of a row, the `first` one where that is; WORDS where there is none. */
static __always_inline int free_column(const struct lanes *l, const struct row *row, __u32 first)
{
	int n;

	if (is_free(l, row->words[first & MARK]))
		return first;
#pragma clang loop unroll(disable)
	for (n = 0; n < WORDS; n++)
		if (is_free(l, row->words[n]))
			break;
	return n;
}

/* Puts a word into the first free column of a row, from `column` on; returns that column, WORDS where the row is
 * full. */
static __always_inline int put_into(const struct lanes *l, struct row *row, int column, __u32 word)
{
#pragma clang loop unroll(disable)
	for (; column < WORDS; column++) {
		__u32 before = row->words[column & MARK];

		if (is_free(l, before) && __sync_val_compare_and_swap(&row->words[column & MARK], before, word) == before)
			break;
	}
	return column;
}

/* Replaces a flow's word, or clears it (0). Returns 0 where another processor changed it first. */
static __always_inline int replace_word(const struct flow *flow, __u32 word)
{
	__u32 number = flow->place >> COLUMN_BITS, column = flow->place & MARK;
	struct row *row = row_at(number);

	return row && flow->word && __sync_val_compare_and_swap(&row->words[column], flow->word, word) == flow->word;
}
