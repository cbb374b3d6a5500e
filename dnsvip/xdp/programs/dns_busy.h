/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What is left to a server that cannot keep up (dnsvip/dns/io/xdp/budget.py): so many questions a second, those of proven
 * sources before all others. Where the bucket is less than half full, no source (/24 or /56) gets more than its share. */
#pragma once
#include "dns_limit.h"

#define UP_BURST (NANOSECONDS / 10)
#define UP_SHARE 4        /* of the budget, for one source: a quarter */
#define UP_PROVEN_SHARE 2 /* a half */
#define UP_KIND (~0ULL)   /* in place of a kind of answer; one less for proven sources */

struct up {
	__u64 full; /* when, in unix nanoseconds */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct up);
} ups SEC(".maps");

/* Takes a question out of the budget; returns whether it may go up. */
static __always_inline int may_go_up(const struct dns_work *w, const struct dns_config *c, int is_proven)
{
	__u64 now = w->unix_ns, full, left;
	struct account *account;
	__u32 zero = 0;
	struct up *up;

	up = bpf_map_lookup_elem(&ups, &zero);
	if (!up)
		return 1;
	full = *(volatile __u64 *)&up->full;
	left = now + UP_BURST > full ? now + UP_BURST - (full > now ? full : now) : 0;
	if (!is_proven && left < c->up_cost)
		return 0; /* a flood costs no more than this */
	if (is_proven || left < UP_BURST / 2) {
		account = account_of(w, UP_KIND - is_proven);
		if (account && take(&account->full, c->up_cost * (is_proven ? UP_PROVEN_SHARE : UP_SHARE), UP_BURST, 0, now))
			return 0;
	}
	return !take(&up->full, c->up_cost, UP_BURST, is_proven ? UP_BURST : 0, now) || is_proven;
}
