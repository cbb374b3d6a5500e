/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Token buckets in nanoseconds, as in dnsvip/dispatcher/token_bucket.py. */
#pragma once
#include "work.h"

#define OVER_RATE (-1)
#define ATTEMPTS 16 /* under contention; after that the packet is over the rate */
#define ANSWER_INTERVAL 1000000ULL
#define ANSWER_BURST 100000000ULL

/* Takes a token. Returns 0, the nanoseconds to wait for it, or OVER_RATE. */
static __always_inline __s64 take_token(__u32 number, __u64 interval, __u64 burst, __u64 debt, __u64 now)
{
	struct bucket *bucket = bpf_map_lookup_elem(&buckets, &number);
	__u64 bound = now + burst + debt, full, floor, next;
	int attempt;

	if (!bucket)
		return OVER_RATE;
	for (attempt = 0; attempt < ATTEMPTS; attempt++) {
		full = *(volatile __u64 *)&bucket->full;
		floor = full > now ? full : now;
		floor = floor < bound ? floor : bound;
		next = floor + interval;
		if (next > bound) {
			if (__sync_val_compare_and_swap(&bucket->full, full, floor) == full)
				return OVER_RATE;
		} else if (__sync_val_compare_and_swap(&bucket->full, full, next) == full) {
			return next > now + burst ? (__s64)(next - now - burst) : 0;
		}
	}
	return OVER_RATE;
}
