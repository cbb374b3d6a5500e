/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Signatures of sets that differ from one requester to another: user space makes them, and they are found again by the
 * addresses that the set has. Those of all other sets are in the template. */
#pragma once
#include "dns_maps.h"
#include "dns_sums.h"

/* As `hash_of` in dnsvip/dns/io/xdp/image.py, of a key of 40 bytes. */
static __always_inline __u64 hash_of(const void *key)
{
	const __u64 *word = key;

	return word[0] * 0x9e3779b97f4a7c15ULL + word[1] * 0xbf58476d1ce4e5b9ULL + word[2] * 0x94d049bb133111ebULL +
	       word[3] * 0xd6e8feb86659fd93ULL + word[4] * 0xff51afd7ed558ccdULL;
}

/* The same, mixed with a generation. */
static __always_inline __u64 owner_of(const void *key, __u32 generation)
{
	return hash_of(key) ^ generation * 0x9fb21c651e98df25ULL;
}

/* Whether a moment (unix seconds) is in a period. */
static __always_inline int is_in(struct dns_period p, __u32 now)
{
	return p.since <= now && now < p.until;
}

/* Gets a template's signatures for work.address into work.signature; returns 0 where they are all there, else the hash of
 * what is missing. */
static __always_inline __u64 find_signatures(struct dns_work *w, const struct template *t)
{
	struct signature *signature;
	__u64 hash;
	__u32 n;

#pragma clang loop unroll(full)
	for (n = 0; n < MAX_SIGNATURES; n++) {
		if (n >= t->signatures)
			break;
		w->of.set = t->signature[n].set;
		__builtin_memcpy(w->of.address, w->address, sizeof(w->of.address));
		hash = hash_of(&w->of);
		signature = bpf_map_lookup_elem(&signatures, &w->of);
		if (!signature || !is_in(signature->period, w->unix_seconds) ||
		    signature->length != t->signature[n].length)
			return hash | 1;
		w->signature[n] = *signature;
		/* the map may have given the record to another one meanwhile */
		if (*(volatile __u64 *)&signature->owner != hash || w->signature[n].owner != hash)
			return hash | 1;
	}
	return 0;
}

/* Writes them where they go in an answer, of whose message the body begins at an offset and in the frame at `start`;
 * returns the sum of their words. Negative where it could not. */
static __always_inline __s64 write_signatures(struct xdp_md *ctx, struct dns_work *w, const struct template *t, __u32 start,
					      __u32 offset)
{
	__u32 n, at, length;
	__s64 sum = 0;

#pragma clang loop unroll(full)
	for (n = 0; n < MAX_SIGNATURES; n++) {
		if (n >= t->signatures)
			break;
		at = t->signature[n].at;
		length = w->signature[n].length;
		opaque(length);
		if (!length || length > SIGNATURE_BYTES ||
		    bpf_xdp_store_bytes(ctx, start + at, w->signature[n].data, length))
			return -1;
		sum += sum_at(offset + at, w->signature[n].sum);
	}
	return sum;
}
