/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Buckets of one client or one source each, in bounded memory, as dnsvip/dispatcher/bucket_table.py. */
#pragma once
#include "filter.h"

/* What the number of a holder is. */
enum holder { HOLDER_CLIENT, HOLDER_SOURCE6, HOLDER_SOURCE4 };

/* A label: the tier, the kind of holder, what the bucket limits. */
#define LABEL_KIND 8
#define LABEL_POLICING (1U << 16)
#define LABEL_TAKEN (1U << 31) /* so that no label is 0 */
#define LABEL_BUSY (1U << 30)  /* another processor is writing it */

/* The two words of a holder's bucket in its set, full ones where it is new; NULL where there is no room for it. Two
 * processors that meet a new holder at once may each give it a bucket: the second is never found again, and free as
 * soon as it is full. */
static __noinline __u64 *bucket_in(struct bucket_set *set, __u64 number, __u32 label, __u64 now)
{
	__u32 before;
	int n;

	if (!set)
		return NULL;
	for (n = 0; n < WAYS; n++)
		if (set->numbers[n] == number && set->labels[n] == label)
			return &set->full[2 * n];
	for (n = 0; n < WAYS; n++) {
		before = set->labels[n];
		if (before & LABEL_BUSY || (before && (set->full[2 * n] > now || set->full[2 * n + 1] > now)) ||
		    __sync_val_compare_and_swap(&set->labels[n], before, LABEL_BUSY) != before)
			continue;
		set->numbers[n] = number;
		set->full[2 * n] = set->full[2 * n + 1] = 0;
		barrier();
		set->labels[n] = label;
		return &set->full[2 * n];
	}
	return NULL;
}

/* The two words of the bucket of a flow's client (0: anonymous) or, by `per`, source; NULL where there is no room for
 * it. `label`: the tier, and what is limited. */
static __noinline __u64 *own_bucket(const struct flow_key *key, __u64 client, __u32 per, __u32 label, __u64 now)
{
	struct lanes *l = lanes_now();
	__u32 kind = HOLDER_CLIENT, number;
	__u64 holder = client, *bucket;
	struct bucket_set *set;

	if (!l || !key)
		return NULL;
	if (!client || per == PER_SOURCE) {
		kind = key->version == 4 ? HOLDER_SOURCE4 : HOLDER_SOURCE6;
		holder = kind == HOLDER_SOURCE4 ? bpf_ntohl(key->source[1] >> 32) >> 8 : bpf_be64_to_cpu(key->source[0]);
	}
	number = mixed(nh(holder, l->key[2]), l->key[5]) & l->bucket_mask;
	set = kind == HOLDER_CLIENT ? bpf_map_lookup_elem(&client_buckets, &number)
				    : bpf_map_lookup_elem(&source_buckets, &number);
	bucket = bucket_in(set, holder, LABEL_TAKEN | kind << LABEL_KIND | label, now);
	if (!bucket)
		count_side(kind == HOLDER_CLIENT ? SIDE_CLIENT_SHARED : SIDE_SOURCE_SHARED);
	return bucket;
}
