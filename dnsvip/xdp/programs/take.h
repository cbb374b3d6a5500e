/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* A token bucket in nanoseconds: the time at which it is full again. */
#pragma once
#include "types.h"

#define OVER_RATE (-1)
#define CONTENDED (-2)
#define ATTEMPTS 16 /* under contention */

/* As `take`, in one attempt. */
static __always_inline __s64 take_once(__u64 *state, __u64 cost, __u64 burst, __u64 debt, __u64 now)
{
	__u64 bound = now + burst + debt, full, floor, next;

	full = *(volatile __u64 *)state;
	floor = full > now ? full : now;
	floor = floor < bound ? floor : bound;
	next = floor + cost;
	if (__sync_val_compare_and_swap(state, full, next > bound ? floor : next) != full)
		return CONTENDED;
	if (next > bound)
		return OVER_RATE;
	return next > now + burst ? (__s64)(next - now - burst) : 0;
}

/* As `take`, in all attempts but the first. (Global, so that the kernel verifies it by itself, once.) */
__noinline __s64 take_contended(__u64 *state, __u64 cost, __u64 burst, __u64 debt, __u64 now)
{
	__s64 wait = CONTENDED;
	int attempt;

	if (!state)
		return CONTENDED;
	for (attempt = 1; attempt < ATTEMPTS && wait == CONTENDED; attempt++)
		wait = take_once(state, cost, burst, debt, now);
	return wait;
}

/* Takes `cost` nanoseconds of tokens. Returns 0, the nanoseconds to wait for them, OVER_RATE, or CONTENDED where other
 * processors were always first. */
static __always_inline __s64 take(__u64 *state, __u64 cost, __u64 burst, __u64 debt, __u64 now)
{
	__s64 wait = take_once(state, cost, burst, debt, now);

	return wait == CONTENDED ? take_contended(state, cost, burst, debt, now) : wait;
}
