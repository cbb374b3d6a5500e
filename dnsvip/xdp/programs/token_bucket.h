/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Token buckets in nanoseconds, as in dnsvip/dispatcher/token_bucket.py. */
#pragma once
#include "work.h"

#define OVER_RATE (-1)
#define CONTENDED (-2)
#define ATTEMPTS 16 /* under contention */
#define ANSWER_INTERVAL 1000000ULL
#define ANSWER_BURST 100000000ULL
#define RESUME_BURST (5 * NANOSECONDS)

/* Takes `cost` nanoseconds of tokens. Returns 0, the nanoseconds to wait for them, OVER_RATE, or CONTENDED where other
 * processors were always first. */
static __always_inline __s64 take(__u64 *state, __u64 cost, __u64 burst, __u64 debt, __u64 now)
{
	__u64 bound = now + burst + debt, full, floor, next;
	int attempt;

	for (attempt = 0; attempt < ATTEMPTS; attempt++) {
		full = *(volatile __u64 *)state;
		floor = full > now ? full : now;
		floor = floor < bound ? floor : bound;
		next = floor + cost;
		if (next > bound) {
			if (__sync_val_compare_and_swap(state, full, floor) == full)
				return OVER_RATE;
		} else if (__sync_val_compare_and_swap(state, full, next) == full) {
			return next > now + burst ? (__s64)(next - now - burst) : 0;
		}
	}
	return CONTENDED;
}

/* Takes a token of the bucket with a number. */
static __always_inline __s64 take_token(__u32 number, __u64 interval, __u64 burst, __u64 debt, __u64 now)
{
	struct bucket *bucket = bpf_map_lookup_elem(&buckets, &number);

	return bucket ? take(&bucket->full, interval, burst, debt, now) : OVER_RATE;
}
