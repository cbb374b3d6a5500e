/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* A token bucket in nanoseconds: the time at which it is full again. */
#pragma once
#include "types.h"

#define OVER_RATE (-1)
#define CONTENDED (-2)
#define ATTEMPTS 16 /* under contention */

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
