/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The address of who asks, where his prefix identifies him: what is kept of it is found by whom he is taken for, of
 * whom there are few, or else by what he sends. */
#pragma once
#include "dns_identify.h"
#include "dns_signatures.h"

#define FEW_LEVELS 2 /* of pages: 84,100 runs, 1.1 MB, which are in a cache */

/* Copies an address into work.made; returns whether it holds now. */
static __always_inline int take_made(struct dns_work *w, const struct made *from, __u64 owner)
{
	struct made *made = &w->made;

	*made = *from;
	return made->owner == owner && made->check == check_of(made) &&
	       (!made->renew || (__u32)w->unix_seconds - made->since < made->renew);
}

/* Has work.identity stand for all whose addresses are made of what work.fresh has, by the same record: a client, or the
 * prefix of strangers. No requester has its version. */
static __always_inline void key_identity(struct dns_work *w)
{
	struct requester *key = &w->identity;
	const struct ready *r = &w->fresh;

	key->source[0] = r->hashed[0];
	key->source[1] = r->hashed[1];
	key->ecs[0] = r->hashed[2];
	key->ecs[1] = r->hashed[3] | (__u64)w->whose.record << 16;
	key->maker = w->who.maker;
	key->version = 0;
}

/* Where it is remembered what the requester in work.who has got, by the hash in work.place: one place for many. */
static __always_inline struct recent *recent_of(const struct dns_work *w)
{
	__u64 hash = w->place;
	__u32 at = hash >> 40 & (RECENT / RECENT_EACH - 1);
	struct recent_group *group = bpf_map_lookup_elem(&recents, &at);

	return group ? &group->recent[hash >> 48 & (RECENT_EACH - 1)] : NULL;
}

static __always_inline int holds(const struct recent *recent, const struct dns_work *w, __u32 generation)
{
	return recent->generation == generation &&
	       (!recent->renew || (__u32)w->unix_seconds - recent->since < recent->renew);
}

static __always_inline int is_same(const struct requester *one, const struct requester *other)
{
	const __u64 *a = (const void *)one, *b = (const void *)other;

	return !((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) | (a[4] ^ b[4]));
}

/* Gets the address of the requester in work.who into work.made where he has asked lately; returns whether it could. (Global, as
 * the next ones, so that the kernel verifies it by itself, once.) */
__noinline int find_recent(__u32 generation)
{
	struct recent *recent;
	struct dns_work *w;
	__u32 zero = 0;
	__u64 hash;

	w = bpf_map_lookup_elem(&dns_works, &zero);
	if (!w)
		return 0;
	hash = hash_of(&w->who);
	w->place = (hash ^ hash >> 32) * 0xbf58476d1ce4e5b9ULL;
	recent = recent_of(w);
	if (!recent || recent->mark != (__u32)w->place || !holds(recent, w, generation) || !is_same(&recent->who, &w->who))
		return 0;
	w->made.address[0] = recent->address[0];
	w->made.address[1] = recent->address[1];
	w->made.cell = recent->cell;
	w->made.scope = recent->scope;
	return 1;
}

/* The same where the runs tell whom he is taken for, and are few enough to be in a cache. What is kept of an address that is
 * made for each slot is kept for all who are taken for the same: these are few, and of many sources each would need memory
 * of its own that is in no cache. */
__noinline int find_identified(__u32 generation)
{
	__u32 zero = 0, levels, number;
	struct identity *id;
	struct ready *ready;
	struct dns_work *w;
	struct memory m;
	__u64 owner;

	w = bpf_map_lookup_elem(&dns_works, &zero);
	id = bpf_map_lookup_elem(&identities, &zero);
	if (!w || !id)
		return 0;
	if (w->who.family)
		levels = id->tree[RUNS_OF_ECS][w->who.family == 2].levels;
	else
		levels = id->tree[RUNS_OF_SOURCE][w->who.version == 6].levels;
	if (levels > FEW_LEVELS || !identify(generation, 0))
		return 0;
	if (!w->fresh.made.renew) {
		w->made = w->fresh.made;
		return 1;
	}
	key_identity(w);
	owner = owner_of(&w->identity, generation);
	number = w->who.maker;
	ready = bpf_map_lookup_elem(&requesters, &w->identity);
	if (!ready || !take_made(w, &ready->made, owner)) {
		if (ready && w->made.owner == owner) {
			if (!seal(ready, number, generation, owner) || !take_made(w, &ready->made, owner))
				return 0;
		} else {
			w->fresh.made.owner = owner;
			if (!seal(&w->fresh, number, generation, owner))
				return 0;
			w->made = w->fresh.made;
			m = memory_of(owner);
			if (came_before(&m))
				bpf_map_update_elem(&requesters, &w->identity, &w->fresh, BPF_ANY);
		}
	}
	w->made.cell = w->fresh.made.cell; /* the step that has found him, and the scope, are of this question */
	w->made.scope = w->fresh.made.scope;
	return 1;
}

/* Has the address in work.made be that of the requester in work.who, whom the runs identify, for `find_recent`. Whose place it is
 * keeps it, until somebody else asks twice with nobody else between. */
__noinline int remember(__u32 generation)
{
	struct recent *recent;
	struct dns_work *w;
	__u32 zero = 0, mark;

	w = bpf_map_lookup_elem(&dns_works, &zero);
	if (!w)
		return 0;
	mark = w->place;
	recent = recent_of(w);
	if (!recent)
		return 0;
	if (holds(recent, w, generation) && recent->next != mark) {
		recent->next = mark;
		return 0;
	}
	recent->mark = mark;
	recent->generation = generation;
	recent->since = w->made.since;
	recent->renew = w->made.renew;
	recent->cell = w->made.cell;
	recent->scope = w->made.scope;
	recent->address[0] = w->made.address[0];
	recent->address[1] = w->made.address[1];
	recent->who = w->who;
	return 0;
}

/* As `identify`, and gets the address into work.made; who has asked before is kept. */
__noinline int introduce(__u32 generation, __u64 owner)
{
	struct memory m = memory_of(owner); /* now, so that the work does not wait for it */
	__u32 zero = 0;
	struct dns_work *w;

	w = bpf_map_lookup_elem(&dns_works, &zero);
	if (!w || !identify(generation, owner) ||
	    (w->fresh.made.renew && !seal(&w->fresh, w->who.maker, generation, owner)))
		return 0;
	w->made = w->fresh.made;
	if (came_before(&m))
		bpf_map_update_elem(&requesters, &w->who, &w->fresh, BPF_ANY);
	return 1;
}
