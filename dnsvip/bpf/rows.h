/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Where a flow's record is: an open hash table of words, seven to a cache line, so that a key that is not known costs
 * one line, and a new one no more.
 *
 *   63 displaced | 62..32 of the key's hash | 31 established | 30..0 number
 *
 * The number of an established flow is its place, that of a new one when it came, counted in new flows: as these are
 * a ring, a word tells by itself that its flow has gone, and is free without anybody taking it out. A key whose own
 * row is full is put into the row beside it, and its own row is marked; marks count until the second sweep after. */
#pragma once
#include "work.h"

#define WORDS 7
#define MARK 7 /* the column of the mark: the sweep of when a key was displaced */
#define DISPLACED (1ULL << 63)
#define ESTABLISHED (1U << 31)
#define NUMBER 0x7fffffffU

static __always_inline struct lanes *lanes_now(void)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&lanes, &key);
}

/* One word of the NH hash (Black and others, UMAC, 1999): who does not know the key cannot make two inputs meet. */
static __always_inline __u64 nh(__u64 word, __u64 key)
{
	__u32 low = (__u32)word + (__u32)key, high = (__u32)(word >> 32) + (__u32)(key >> 32);

	return (__u64)low * high;
}

static __always_inline __u64 mixed(__u64 h, __u64 key)
{
	h = (h ^ h >> 32) * (key | 1);
	return h ^ h >> 32;
}

static __always_inline __u64 index_hash(const struct lanes *l, const struct flow_key *k)
{
	__u64 last = k->source_port | (__u64)k->destination_port << 16 | (__u64)k->protocol << 32;

	return mixed(nh(k->source[0], l->key[0]) + nh(k->source[1], l->key[1]) + nh(k->destination[0], l->key[2]) +
			     nh(k->destination[1], l->key[3]) + nh(last, l->key[4]),
		     l->key[5]);
}

static __always_inline __u64 tag_of(__u64 hash)
{
	return hash >> 33 << 32;
}

/* How many new flows have come since a word's did, its own included. */
static __always_inline __u32 age(const struct lanes *l, __u64 word)
{
	return ((__u32)l->cursor - (__u32)word) & NUMBER;
}

static __always_inline int is_free(const struct lanes *l, __u64 word)
{
	return !word || (!(word & ESTABLISHED) && age(l, word) - 1 >= l->new_places);
}

static __always_inline struct flow *record_at(__u32 number)
{
	return bpf_map_lookup_elem(&flows, &number);
}

/* The record that a word names. */
static __always_inline struct flow *record_of(const struct lanes *l, __u64 word)
{
	if (word & ESTABLISHED)
		return record_at(l->new_places + (word & NUMBER));
	return record_at((l->cursor - age(l, word)) % l->new_places);
}

static __always_inline int is_same(const struct flow_key *a, const struct flow_key *b)
{
	return a->source[1] == b->source[1] && a->destination[1] == b->destination[1] &&
	       a->source[0] == b->source[0] && a->destination[0] == b->destination[0] &&
	       a->source_port == b->source_port && a->destination_port == b->destination_port &&
	       a->protocol == b->protocol && a->version == b->version;
}

static __always_inline struct row *row_at(__u32 number)
{
	return bpf_map_lookup_elem(&rows, &number);
}

/* The place that a hash has on a ring: a server number. */
static __always_inline __u16 *place_on(__u32 number, __u64 hash)
{
	__u32 key = 0;
	void *inner = bpf_map_lookup_elem(&rings, &number);
	struct ring *ring = inner ? bpf_map_lookup_elem(inner, &key) : NULL;

	hash %= RING_SIZE;
	opaque(hash);
	if (!ring || hash >= RING_SIZE)
		return NULL;
	opaque(hash);
	return &ring->places[hash];
}

/* Has what a new flow is going to need read while the processor goes on: its row of the index, and its place on the ring
 * that was chosen from last, which seldom is another. */
static __always_inline void read_ahead(const struct work *w, const struct lanes *l)
{
	struct row *row = row_at(w->index_hash & l->row_mask);
	__u16 *place = place_on(w->ring, w->flow_hash);

	if (row)
		(void)*(volatile __u64 *)&row->words[MARK];
	if (place)
		(void)*(volatile __u16 *)place;
}

/* The flow with a key among those of a row whose words have this top half. */
static __always_inline struct flow *flow_in(const struct lanes *l, const struct row *row, __u64 top,
					    const struct flow_key *key)
{
	struct flow *flow;
	int n;

#pragma clang loop unroll(disable)
	for (n = 0; n < WORDS; n++) {
		__u64 word = row->words[n];

		if ((word ^ top) >> 32 || is_free(l, word))
			continue;
		flow = record_of(l, word);
		if (flow && flow->word == word && is_same(&flow->key, key))
			return flow;
	}
	return NULL;
}

static __always_inline int is_marked(const struct lanes *l, const struct row *row)
{
	return row->words[MARK] && (__s32)(l->sweeps - (__u32)row->words[MARK]) <= 1;
}

/* A bit for each key there is, and for some that have gone since the last sweep: where it is not set, the key is not
 * there, which costs a read of a small map. Two filters side by side, in the halves of each word: one is read while a
 * sweep makes the other anew. */
static __always_inline __u64 *filter_word(__u64 hash)
{
	__u32 number = hash >> 12 & (entries_of(&filters) - 1);

	return bpf_map_lookup_elem(&filters, &number);
}

static __always_inline __u64 filter_bit(__u64 hash, __u32 half)
{
	return 1ULL << (hash >> 59) << 32 * half;
}

static __always_inline int may_be_known(const struct lanes *l, __u64 hash)
{
	__u64 *word = filter_word(hash);

	return !word || *word & filter_bit(hash, l->sweeps & 1);
}

static __always_inline void filter_add(__u64 hash, __u64 bits)
{
	__u64 *word = filter_word(hash);

	if (word && ~*word & bits)
		__sync_fetch_and_or(word, bits);
}

/* The flow with a key and its hash. */
static __always_inline struct flow *look_up(const struct lanes *l, const struct flow_key *key, __u64 hash)
{
	__u32 number = hash & l->row_mask;
	struct row *row = row_at(number);
	struct flow *flow;

	if (!row)
		return NULL;
	flow = flow_in(l, row, tag_of(hash), key);
	if (flow || !is_marked(l, row))
		return flow;
	row = row_at(number ^ 1);
	return row ? flow_in(l, row, tag_of(hash) | DISPLACED, key) : NULL;
}

static __noinline struct flow *find_flow(const struct flow_key *key)
{
	struct lanes *l = lanes_now();

	return l ? look_up(l, key, index_hash(l, key)) : NULL;
}

/* The first column of a row that is free; WORDS where none is. */
static __always_inline int free_column(const struct lanes *l, const struct row *row)
{
	int n;

#pragma clang loop unroll(disable)
	for (n = 0; n < WORDS; n++)
		if (is_free(l, row->words[n]))
			break;
	return n;
}

/* Puts a word into a row, at a free column or behind: the column, WORDS where that is full. */
static __always_inline int put_into(const struct lanes *l, struct row *row, int column, __u64 word)
{
#pragma clang loop unroll(disable)
	for (; column < WORDS; column++) {
		__u64 before = row->words[column & 7];

		if (is_free(l, before) && __sync_val_compare_and_swap(&row->words[column & 7], before, word) == before)
			break;
	}
	return column;
}

/* Puts another word in the place of a flow's, or none (0); 0 where somebody else was faster. */
static __always_inline int replace_word(const struct flow *flow, __u64 word)
{
	__u32 number = flow->place >> 3, column = flow->place & 7;
	struct row *row = row_at(number);

	return row && flow->word && __sync_val_compare_and_swap(&row->words[column], flow->word, word) == flow->word;
}
