/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Addresses decoded before (map `decoded`): what was in them, and what that meant. */
#pragma once
#include "rows.h"

#define HINTS_A_WORD 8

/* Each address has two places, side by side: what comes goes into the first, what was there into the second. The hash
 * does not take in the tag, so an address and its proven form have the same, and nothing has to be verified for it. */
static __always_inline __u64 decoded_hash(const struct lanes *l, struct wide body)
{
	return mixed(nh(body.hi, l->key[0]) + nh(body.lo, l->key[1]), l->key[5]);
}

static __always_inline struct decoded *decoded_at(__u64 hash, __u32 second)
{
	__u32 number = (hash & (DECODED / 2 - 1)) * 2 + second;

	return bpf_map_lookup_elem(&decoded, &number);
}

/* A byte for each place, eight to a word, that hangs on the whole address, so that most forged ones are told without
 * a look into the cache. Writers do not wait for each other; a hint that is lost makes an address be decoded again. */
static __always_inline __u64 *hints_of(__u64 hash)
{
	__u32 number = (hash & (DECODED / 2 - 1)) * 2 / HINTS_A_WORD;

	return bpf_map_lookup_elem(&hints, &number);
}

static __always_inline __u32 hint_shift(__u64 hash)
{
	return (hash & (HINTS_A_WORD / 2 - 1)) * 16;
}

static __always_inline __u64 hint_of(const struct lanes *l, __u64 hash, struct wide address)
{
	return (hash ^ (address.lo + l->key[2]) * (l->key[3] | 1)) >> 56;
}

static __always_inline int is_hinted(__u64 hash, __u64 hint)
{
	__u64 *word = hints_of(hash), both = word ? *word >> hint_shift(hash) : 0;

	return (both & 255) == hint || (both >> 8 & 255) == hint;
}

static __always_inline __u64 decoded_check(const struct decoded *d)
{
	return d->payload.lo * 0x9e3779b97f4a7c15ULL +
	       (d->payload.hi ^ (__u64)d->tier << 32 ^ d->generation) * 0xbf58476d1ce4e5b9ULL +
	       (d->address.lo ^ d->deadline) * 0x94d049bb133111ebULL + d->address.hi + d->identity;
}

/* Takes a copy into work.decoded of what the cache has for an address, of which `mask` counts; 0 where that is nothing. */
static __always_inline int decoded_before(struct work *w, __u64 hash, struct wide address, struct wide mask,
					  __u64 identity)
{
	struct decoded *known = decoded_at(hash, 0), *d = &w->decoded;

	if (known && (known->address.lo ^ address.lo) & mask.lo)
		known = decoded_at(hash, 1);
	if (!known)
		return 0;
	*d = *known;
	return !((d->address.lo ^ address.lo) & mask.lo) && !((d->address.hi ^ address.hi) & mask.hi) &&
	       d->identity == identity && d->check == decoded_check(d);
}

static __always_inline void remember_decoded(struct work *w, const struct lanes *l, __u64 hash,
					     struct wide mask)
{
	struct decoded *first = decoded_at(hash, 0), *second = decoded_at(hash, 1);
	__u64 *word = hints_of(hash);
	__u32 shift = hint_shift(hash);

	if (!first || !second || !word)
		return;
	w->decoded.check = decoded_check(&w->decoded);
	if ((first->address.lo ^ w->decoded.address.lo) & mask.lo) {
		*second = *first;
		*word = (*word & ~(0xff00ULL << shift)) | (*word >> shift & 0xff) << shift << 8;
	}
	*first = w->decoded;
	*word = (*word & ~(0xffULL << shift)) | hint_of(l, hash, w->decoded.address) << shift;
}
