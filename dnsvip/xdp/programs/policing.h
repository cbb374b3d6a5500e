/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Policing: the bytes and packets that a tier's clients may send, as dnsvip/dispatcher/policing.py. */
#pragma once
#include "bucket_table.h"
#include "token_bucket.h"

#define BYTE_BITS 20
#define LOWER_EFFORT 1 /* RFC 8622 */

/* Whether the packets of a tier's flows are policed: the one thing that those of all flows pay. */
static __always_inline int is_policed(const struct site *site, __u32 tier)
{
	return site->policed[tier >> 6 & (MAX_TIERS / 64 - 1)] >> (tier & 63) & 1;
}

/* The DSCP of a packet over the limit: within Assured Forwarding the highest drop precedence of the same class (RFC 2597),
 * else lower effort. */
static __always_inline __u8 marked(__u8 dscp)
{
	__u8 class = dscp >> 3, precedence = dscp & 7;

	return class >= 1 && class <= 4 && (precedence == 2 || precedence == 4 || precedence == 6) ? (dscp & 0x38) | 6
												   : LOWER_EFFORT;
}

/* Whether both buckets have tokens for a packet, which are then taken. One larger than the burst takes all of it. Where
 * other processors are always first the packet passes. */
static __always_inline int conforms(__u64 *full, const struct tier *tier, __u32 size, __u64 now)
{
	__u64 burst = tier->police_burst, cost = (size * tier->police_bytes + (1 << (BYTE_BITS - 1))) >> BYTE_BITS;

	if (cost > burst)
		cost = burst;
	if (cost && take(&full[0], cost, burst, 0, now) == OVER_RATE)
		return 0;
	if (tier->police_packets && take(&full[1], tier->police_packets, burst, 0, now) == OVER_RATE) {
		__sync_fetch_and_sub(&full[0], cost);
		return 0;
	}
	return 1;
}

/* The two buckets that the packet of work.packet takes from. */
static __always_inline __u64 *policing_bucket(const struct work *w, const struct tier *tier, __u64 client, __u32 number)
{
	struct bucket_pair *shared;
	__u64 *own = NULL;

	if (tier->police_per != PER_TIER)
		own = own_bucket(&w->packet.key, client, tier->police_per, number | LABEL_POLICING, w->now);
	if (own)
		return own;
	shared = bpf_map_lookup_elem(&policing_buckets, &number);
	return shared ? shared->full : NULL;
}

/* Drops or marks the packet that work.verdict forwards, where its tier is policed and it is over the limit; a held one is
 * not marked. Returns 0 where it is dropped. (Global, so that the kernel verifies it by itself, once.) */
__noinline int police(__u64 client, __u32 number)
{
	struct site *site = current_site();
	struct work *w = work();
	const struct tier *tier;
	struct policed *count;
	__u64 *full;

	if (!site || !w || number >= MAX_TIERS || !is_policed(site, number))
		return 1;
	tier = &site->tiers[number];
	full = policing_bucket(w, tier, client, number);
	if (!full || conforms(full, tier, w->packet.end - w->packet.network, w->now))
		return 1;
	count = bpf_map_lookup_elem(&policed, &number);
	if (tier->police_marks) {
		if (w->verdict.held)
			return 1;
		if (count)
			count->marked++;
		w->verdict.reason = REASON_POLICED_MARKED;
		w->verdict.dscp = marked(w->verdict.dscp);
		return 1;
	}
	if (count)
		count->dropped++;
	set_verdict(&w->verdict, ACTION_DROP, REASON_POLICED);
	w->verdict.server = NONE;
	w->verdict.held = 0;
	return 0;
}
