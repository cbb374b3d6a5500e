/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The decode cache (map `decoded`): payloads of addresses seen before, and the verdicts on them. */
#pragma once
#include "rows.h"

/* Each address has two adjacent entries: a new one goes into the first, which moves to the second. */
static __always_inline struct decoded *decoded_at(const struct lanes *l, __u64 hash, __u32 second)
{
	__u32 number = (hash & l->decoded_mask) * 2 + second;

	return bpf_map_lookup_elem(&decoded, &number);
}

/* The hash of an address without its tag. */
static __always_inline __u64 body_hash(const struct lanes *l, struct wide address, struct wide mask)
{
	return mixed(nh(address.hi & mask.hi, &l->key[0]) + nh(address.lo & mask.lo, &l->key[1]), l->key[5]);
}

static __always_inline __u64 decoded_check(const struct decoded *d)
{
	__u64 route = (__u64)d->route.pool << 16 | d->route.dscp << 8 | d->route.rule;

	return d->payload.lo * 0x9e3779b97f4a7c15ULL +
	       (d->payload.hi ^ (__u64)d->tier << 32 ^ d->generation) * 0xbf58476d1ce4e5b9ULL +
	       (d->address.lo ^ d->deadline) * 0x94d049bb133111ebULL + (d->address.hi ^ route) + d->identity;
}

/* Copies the cache entry of an address into work.decoded, comparing the bits of `mask`; 0 where there is none. */
static __always_inline int decoded_before(struct work *w, const struct lanes *l, struct wide address, struct wide mask, __u64 identity)
{
	struct decoded *known = decoded_at(l, w->decoded_hash, 0), *d = &w->decoded;

	if (known && (known->address.lo ^ address.lo) & mask.lo)
		known = decoded_at(l, w->decoded_hash, 1);
	if (!known)
		return 0;
	*d = *known;
	return !((d->address.lo ^ address.lo) & mask.lo) && !((d->address.hi ^ address.hi) & mask.hi) &&
	       d->identity == identity && d->check == decoded_check(d);
}

/* Writes work.decoded into the cache. Always 0. */
static __noinline int remember_decoded(struct work *w, const struct lanes *l, struct wide mask)
{
	struct decoded *first = decoded_at(l, w->decoded_hash, 0), *second = decoded_at(l, w->decoded_hash, 1);

	if (!first || !second)
		return 0;
	w->decoded.check = decoded_check(&w->decoded);
	if ((first->address.lo ^ w->decoded.address.lo) & mask.lo)
		*second = *first;
	*first = w->decoded;
	if (w->decoded.generation)
		filter_add(l, w->address_hash, filter_bits(w->address_hash));
	return 0;
}
