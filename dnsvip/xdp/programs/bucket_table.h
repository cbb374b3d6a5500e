/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Buckets of one client or one source each, in bounded memory, as dnsvip/dispatcher/bucket_table.py. */
#pragma once
#include "filter.h"

/* What kind of holder has a number. */
enum holder_kind { HOLDER_CLIENT, HOLDER_SOURCE6, HOLDER_SOURCE4 };

/* A label: the tier, the kind of holder, what the bucket limits. */
#define LABEL_KIND 8
#define LABEL_POLICING (1U << 16)
#define LABEL_TAKEN (1U << 31) /* so that no label is 0 */
#define LABEL_BUSY (1U << 30)  /* another processor is writing it */

/* Whose bucket it is. */
struct holder {
	__u64 number;
	__u32 label;
};

/* The set of the bucket of a flow's client (0: anonymous) or, by `per`, source. `label`: the tier, and what is limited. */
static __always_inline struct bucket_set *set_of(struct holder *holder, const struct lanes *l, const struct flow_key *key,
						 __u64 client, __u32 per, __u32 label)
{
	__u32 kind = HOLDER_CLIENT, number;

	holder->number = client;
	if (!client || per == PER_SOURCE) {
		kind = key->version == 4 ? HOLDER_SOURCE4 : HOLDER_SOURCE6;
		holder->number = kind == HOLDER_SOURCE4 ? bpf_ntohl(key->source[1] >> 32) >> 8 :
							  bpf_be64_to_cpu(key->source[0]);
	}
	holder->label = LABEL_TAKEN | kind << LABEL_KIND | label;
	number = mixed(nh(holder->number, &l->key[2]), l->key[5]) & l->bucket_mask;
	return kind == HOLDER_CLIENT ? bpf_map_lookup_elem(&client_buckets, &number) :
				       bpf_map_lookup_elem(&source_buckets, &number);
}

/* The two words of the bucket that a holder has in its set; NULL where it has none. */
static __always_inline __u64 *bucket_of(struct bucket_set *set, const struct holder *holder)
{
	int n;

	for (n = 0; n < WAYS; n++)
		if (set->numbers[n] == holder->number && set->labels[n] == holder->label)
			return &set->full[2 * n];
	return NULL;
}

/* The two words of a bucket in its set, full ones where the holder is new; NULL where there is no room for it. Two
 * processors that meet a new holder at once may each give it a bucket: the second is never found again, and free as
 * soon as it is full. */
static __noinline __u64 *bucket_in(struct bucket_set *set, const struct holder *holder, __u64 now)
{
	__u64 *bucket;
	__u32 before;
	int n;

	if (!set)
		return NULL;
	bucket = bucket_of(set, holder);
	if (bucket)
		return bucket;
	for (n = 0; n < WAYS; n++) {
		before = set->labels[n];
		if (before & LABEL_BUSY || (before && (set->full[2 * n] > now || set->full[2 * n + 1] > now)) ||
		    __sync_val_compare_and_swap(&set->labels[n], before, LABEL_BUSY) != before)
			continue;
		set->numbers[n] = holder->number;
		set->full[2 * n] = set->full[2 * n + 1] = 0;
		barrier();
		set->labels[n] = holder->label;
		return &set->full[2 * n];
	}
	return NULL;
}

/* The two words of the bucket of a flow's client or source, as `set_of`; NULL where there is no room for it. */
static __noinline __u64 *own_bucket(const struct flow_key *key, __u64 client, __u32 per, __u32 label, __u64 now)
{
	struct lanes *l = lanes_now();
	struct bucket_set *set;
	struct holder holder;
	__u64 *bucket;

	if (!l || !key)
		return NULL;
	set = set_of(&holder, l, key, client, per, label);
	bucket = bucket_in(set, &holder, now);
	if (!bucket)
		count_side(client && per != PER_SOURCE ? SIDE_CLIENT_SHARED : SIDE_SOURCE_SHARED);
	return bucket;
}
