/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Addresses decoded before (map `decoded`): what was in them, and what that meant. */
#pragma once
#include "work.h"

/* Each tag has two places, side by side: what comes goes into the first, what was there into the second. */
static __always_inline struct decoded *decoded_at(__u64 tag, __u32 second)
{
	__u32 number = (tag & (DECODED / 2 - 1)) * 2 + second;

	return bpf_map_lookup_elem(&decoded, &number);
}

static __always_inline __u64 decoded_check(const struct decoded *d)
{
	__u64 h = (d->body.lo ^ d->payload.hi << 32) * 0x9e3779b97f4a7c15ULL;

	h = (h ^ h >> 29 ^ d->body.hi ^ d->payload.lo) * 0xbf58476d1ce4e5b9ULL;
	h = (h ^ h >> 32 ^ d->identity ^ d->generation) * 0x94d049bb133111ebULL;
	return h ^ h >> 31 ^ d->tier ^ (__u64)d->deadline << 32;
}

/* Takes a copy of what the cache has for an address into work.decoded; 0 where it has nothing. */
static __always_inline int decoded_before(struct work *w, __u64 tag, struct wide body, __u64 identity)
{
	struct decoded *known = decoded_at(tag, 0);

	if (!known)
		return 0;
	if (known->body.lo != body.lo)
		known = decoded_at(tag, 1);
	if (!known)
		return 0;
	w->decoded = *known;
	return w->decoded.body.lo == body.lo && w->decoded.body.hi == body.hi && w->decoded.identity == identity &&
	       w->decoded.check == decoded_check(&w->decoded);
}

static __always_inline void remember_decoded(struct work *w, __u64 tag)
{
	struct decoded *first = decoded_at(tag, 0), *second = decoded_at(tag, 1);

	if (!first || !second)
		return;
	w->decoded.check = decoded_check(&w->decoded);
	if (first->body.lo != w->decoded.body.lo)
		*second = *first;
	*first = w->decoded;
}
