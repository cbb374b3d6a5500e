/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Token buckets in nanoseconds, as in dnsvip/dispatcher/token_bucket.py. */
#pragma once
#include "take.h"
#include "work.h"

#define ANSWER_INTERVAL 1000000ULL
#define ANSWER_BURST 100000000ULL
#define RESUME_BURST (5 * NANOSECONDS)

/* Takes a token of the bucket with a number. */
static __always_inline __s64 take_token(__u32 number, __u64 interval, __u64 burst, __u64 debt, __u64 now)
{
	struct bucket *bucket = bpf_map_lookup_elem(&buckets, &number);

	return bucket ? take(&bucket->full, interval, burst, debt, now) : OVER_RATE;
}
