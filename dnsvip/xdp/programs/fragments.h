/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The flows of fragmented packets, by what their fragments have in common (map `fragments`). A hash of the kernel costs
 * more than all else that a flood of later fragments needs, so a mark is read first. */
#pragma once
#include "work.h"

/* The mark of a fragment's packet. */
static __always_inline __u32 *fragment_mark(const struct fragment_key *key)
{
	__u32 number = ((key->source[1] ^ key->destination[1]) + key->identity) * 0x9e3779b97f4a7c15ULL >> 52;

	return bpf_map_lookup_elem(&fragment_marks, &number);
}

/* Notes that a fragment's packet is remembered until a second. */
static __always_inline void mark_first(const struct fragment_key *key, __u32 until)
{
	__u32 *mark = fragment_mark(key);

	if (mark && *mark < until)
		*mark = until;
}

/* What is remembered of a later fragment's packet; NULL where nothing is. */
static __always_inline struct remembered *known_first(const struct fragment_key *key, __u32 now)
{
	__u32 *mark = fragment_mark(key);
	struct remembered *first;

	if (!mark || *mark < now)
		return NULL;
	first = bpf_map_lookup_elem(&fragments, key);
	return first && first->until >= now ? first : NULL;
}

_Static_assert(FRAGMENTED == 1 << (64 - 52), "the hash has as many bits as there are marks");
