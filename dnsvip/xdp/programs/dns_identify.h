/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Whose prefix a requester is in that has not asked before, as dnsvip/dns/identity/identify.py finds it: the runs of
 * site/identity/prefixes.py in pages, and what a maker makes the addresses of each client of, in records. What neither
 * says is the server's. Fed by dnsvip/dns/io/xdp/prefixes.py. */
#pragma once
#include "seal.h"

#define LINE 8 /* numbers of 64 bits in a cache line */
#define PAGE_LINES ((PAGE_GROUPS + LINE - 1) / LINE)

/* 1 where a < b, without a branch: which way it goes, nothing predicts. */
static __always_inline __u64 is_below(__u64 a, __u64 b)
{
	__u64 borrow = ((~a & b) | ((~a | b) & (a - b))) >> 63;

	opaque(borrow); /* else clang makes a branch of it */
	return borrow;
}

/* The last of so many sorted numbers, `apart` from each other, that is not above an address; the first one if all are. */
static __always_inline __u32 place_in(const __u64 *numbers, int count, int apart, __u64 address)
{
	__u64 above = 0;

#pragma clang loop unroll(full)
	for (int n = 1; n < count; n++)
		above += is_below(address, numbers[n * apart]);
	return count - 1 - above;
}

/* The group of a page that an address is in. The starts of the lines are in different ones, so that all of these are fetched
 * at once. */
static __always_inline const struct run_group *group_in(const struct run_page *page, __u64 address)
{
	__u32 at = place_in(page->first, PAGE_LINES, LINE, address);

	opaque(at);
	at &= PAGE_LINES - 1;
	at = at * LINE + place_in(page->first + at * LINE, LINE, 1, address);
	opaque(at);
	return &page->group[at < PAGE_GROUPS ? at : PAGE_GROUPS - 1];
}

static __always_inline struct run_page *page_at(__u32 number)
{
	__u32 array = number / PAGES_EACH, at = number % PAGES_EACH;
	void *pages_there = bpf_map_lookup_elem(&pages, &array);

	return pages_there ? bpf_map_lookup_elem(pages_there, &at) : NULL;
}

static __always_inline struct record *record_at(__u32 number)
{
	__u32 array = number / RECORDS_EACH, at = number % RECORDS_EACH;
	void *records_there = bpf_map_lookup_elem(&records, &array);

	return records_there ? bpf_map_lookup_elem(records_there, &at) : NULL;
}

/* The owner of the run around an address, NONE where runs are not here, or 64 bits do not tell it (pages.py); and where the run
 * starts and the next one does, 0 for the first and after the last. */
static __always_inline __u32 owner_at(const struct run_tree *tree, __u64 address, __u64 *start, __u64 *after)
{
	__u32 number = tree->page, levels = tree->levels, level, at;
	__u64 next;

	*start = *after = 0;
	if (!levels)
		return NONE;
#pragma clang loop unroll(disable)
	for (level = 0; level < PAGE_LEVELS; level++) {
		const struct run_group *group;
		struct run_page *page;

		if (level >= levels)
			break;
		page = page_at(number);
		if (!page)
			return NONE;
		group = group_in(page, address);
		at = place_in(group->start, GROUP_RUNS, 1, address);
		opaque(at);
		if (at >= GROUP_RUNS)
			return NONE;
		*start = group->start[at];
		next = group->start[at + 1];
		*after = next ? next : *after;
		number = group->owner[at];
	}
	return number;
}

/* Finds the run around an address into work.whose: its owner in place of a record, and its scope: the bits of the shortest
 * prefix around the address that is all of it. `unit` is the distance of two addresses. Returns 0 where there is no owner. */
static __always_inline int find_run(struct dns_work *w, const struct run_tree *tree, __u64 address, __u64 unit)
{
	__u64 start, after, nearest, distance;
	__u32 owner = owner_at(tree, address, &start, &after), bits = 0;

	if (owner == NONE)
		return 0;
	nearest = start ? address ^ (start - unit) : ~0ULL;
	distance = after ? address ^ after : ~0ULL;
	if (distance < nearest)
		nearest = distance;
	if (start || after) { /* 65 - the length of `nearest` */
		bits = 1;
#pragma clang loop unroll(full)
		for (int half = 32; half; half /= 2) {
			__u32 is_empty = !(nearest >> (64 - half));

			bits += is_empty ? half : 0;
			nearest <<= is_empty ? half : 0;
		}
		bits += !(nearest >> 63);
	}
	w->whose.scope = bits;
	w->whose.record = owner;
	return 1;
}

/* The distance of two addresses of a family, and the one to look for, in the upper half where it is IPv4. */
static __always_inline __u64 unit_of(__u32 is_six)
{
	return is_six ? 1 : 1ULL << 32;
}

static __always_inline __u64 hash_of_resolver(const struct resolver_key *key)
{
	const __u64 *word = (const void *)key;

	return (word[0] * 0x9e3779b97f4a7c15ULL + word[1] * 0xbf58476d1ce4e5b9ULL + word[2] * 0x94d049bb133111ebULL) | 1;
}

/* Looks for the runs of the ECS option in work.who, where its sender is believed. */
static __always_inline void find_ecs(struct dns_work *w, const struct identity *id)
{
	struct resolver_key key = {.listener = w->who.listener, .version = w->who.version};
	__u32 is_six = w->who.family == 2, record;
	struct resolver *resolver;
	__u64 hash;
	__u8 step;

	key.source[0] = w->who.source[0];
	key.source[1] = w->who.source[1];
	hash = hash_of_resolver(&key);
	resolver = bpf_map_lookup_elem(&resolvers, &key);
	if (!resolver || resolver->generation != id->generation || resolver->owner != hash) {
		w->whose.sender = hash;
		return;
	}
	if (!resolver->otherwise.looks)
		return;
	record = resolver->otherwise.record;
	step = resolver->otherwise.step;
	if (*(volatile __u64 *)&resolver->owner != hash ||
	    !find_run(w, &id->tree[RUNS_OF_ECS][is_six], bpf_be64_to_cpu(w->who.ecs[0]), unit_of(is_six)))
		return;
	if (w->whose.scope > w->who.bits) { /* several are in its prefix */
		w->whose.record = NONE;
	} else if (w->whose.record) {
		w->whose.record += id->owners;
		w->whose.step = RUNS_OF_ECS;
	} else {
		w->whose.record = record;
		w->whose.step = step;
	}
}

/* The source in work.who, in the upper half where it is IPv4. */
static __always_inline __u64 source_address(const struct dns_work *w)
{
	if (w->who.version == 6)
		return bpf_be64_to_cpu(w->who.source[0]);
	return bpf_be64_to_cpu(w->who.source[1]) << 32;
}

/* Takes the ECS option in work.ecs into work.who, but where its source is in no network that is believed: who has no option
 * gets the same. (Global, so that the kernel verifies it by itself, once.) */
__noinline int look_at_ecs(__u32 generation)
{
	__u64 start, after;
	struct identity *id;
	struct dns_work *w;
	__u32 zero = 0;

	w = bpf_map_lookup_elem(&dns_works, &zero);
	id = bpf_map_lookup_elem(&identities, &zero);
	if (!w || !id)
		return 0;
	if (*(volatile __u32 *)&id->generation == generation &&
	    !owner_at(&id->trusted[w->who.version == 6], source_address(w), &start, &after))
		return 0;
	w->who.ecs[0] = w->ecs.address[0];
	w->who.ecs[1] = w->ecs.address[1];
	w->who.family = w->ecs.family;
	w->who.bits = w->ecs.bits;
	return 0;
}

/* Looks for the runs of the source in work.who. */
static __always_inline void find_source(struct dns_work *w, const struct identity *id)
{
	__u32 listener = w->who.listener, is_six = w->who.version == 6;
	const struct otherwise *otherwise;

	otherwise = &id->source[listener & (MAX_LISTENERS - 1)];
	if (otherwise->looks) {
		if (!find_run(w, &id->tree[RUNS_OF_SOURCE][is_six], source_address(w), unit_of(is_six))) {
			w->whose.record = NONE;
			return;
		}
		w->whose.step = RUNS_OF_SOURCE;
		if (w->whose.record) {
			w->whose.record += id->owners;
			w->whose.scope = 0;
			return;
		}
	}
	w->whose.scope = 0;
	w->whose.record = otherwise->record;
	w->whose.step = otherwise->step;
}

/* What the nonces of a prefix are hashes of (issuer.py, _KEY), into work.fresh, with the scope that it has by that. */
static __always_inline void hash_prefix(struct dns_work *w)
{
	__u32 is_six = w->who.version == 6, bits, length;
	__u64 hi = w->who.source[0], lo = w->who.source[1];
	struct ready *r = &w->fresh;

	bits = is_six ? 48 : 24;
	if (w->who.family) {
		is_six = w->who.family == 2;
		bits = is_six ? 48 : 24;
		if (w->who.bits < bits)
			bits = w->who.bits;
		if (w->whose.scope > bits)
			bits = w->whose.scope;
		r->made.scope = bits;
		hi = is_six ? w->who.ecs[0] : 0;
		lo = is_six ? w->who.ecs[1] : w->who.ecs[0] << 32;
	}
	length = is_six ? bits : bits + 96;
	hi = bpf_be64_to_cpu(hi);
	lo = bpf_be64_to_cpu(lo);
	if (length < 64) {
		hi &= length ? ~0ULL << (64 - (length & 63)) : 0;
		lo = 0;
	} else if (length < 128) {
		lo &= length > 64 ? ~0ULL << (128 - length & 63) : 0;
	}
	hi = bpf_cpu_to_be64(hi);
	lo = bpf_cpu_to_be64(lo);
	r->hashed[0] = 0;
	r->hashed[1] = (is_six ? 6 : 4) | bits << 8 | hi << 16;
	r->hashed[2] = hi >> 48 | lo << 16;
	r->hashed[3] = lo >> 48;
}

/* Where it is remembered that what has a hash came. */
struct memory {
	__u32 *place;
	__u32 found; /* there */
	__u32 mark;  /* that stands for it */
};

static __always_inline struct memory memory_of(__u64 what)
{
	struct memory m = {};
	__u32 place;

	what *= 0x9e3779b97f4a7c15ULL;
	what ^= what >> 32;
	what *= 0xbf58476d1ce4e5b9ULL;
	place = what >> 48; /* the high bits depend on all others */
	m.mark = (what >> 16) | 1;
	m.place = bpf_map_lookup_elem(&seen, &place);
	if (m.place)
		m.found = *(volatile __u32 *)m.place;
	return m;
}

/* Whether it came before, as far as is remembered; it is from now on. */
static __always_inline int came_before(const struct memory *m)
{
	if (!m->place)
		return 0;
	if (m->found == m->mark)
		return 1;
	if (!m->found || bpf_get_prandom_u32() & 1) /* of two that come in turn, one stays */
		*m->place = m->mark;
	return 0;
}

static __always_inline int comes_again(__u64 what)
{
	struct memory m = memory_of(what);

	return came_before(&m);
}

/* Makes what is ready for the requester in work.who, of whom `owner` is the hash, of the records of its maker, into
 * work.fresh, but for an address that is made for each slot. Returns 0 where the server has to answer: work.whose.missing
 * is what it is to be told for. (Global, so that the kernel verifies it by itself, once.) */
__noinline int identify(__u32 generation, __u64 owner)
{
	__u32 zero = 0, number;
	struct record_set *set;
	struct identity *id;
	struct record *record;
	struct dns_work *w;
	struct maker *maker;
	struct ready *r;

	w = bpf_map_lookup_elem(&dns_works, &zero);
	id = bpf_map_lookup_elem(&identities, &zero);
	if (!w || !id)
		return 0;
	w->whose.missing = owner;
	if (*(volatile __u32 *)&id->generation != generation)
		return 0;
	if (!w->whose.is_known) {
		w->whose.is_known = 1;
		w->whose.record = NONE;
		w->whose.sender = 0;
		if (w->who.family)
			find_ecs(w, id);
		else
			find_source(w, id);
	}
	if (w->whose.sender)
		w->whose.missing = w->whose.sender;
	number = w->who.maker;
	set = bpf_map_lookup_elem(&record_sets, &number);
	number = w->whose.record;
	if (!set || *(volatile __u32 *)&set->generation != generation || number >= set->count)
		return 0;
	record = record_at(number + set->first);
	if (!record || record->kind == RECORD_NONE)
		return 0;
	r = &w->fresh;
	r->made.owner = owner;
	r->made.since = r->made.renew = 0;
	r->made.cell = record->cell[w->whose.step & (RUN_STEPS - 1)];
	r->made.scope = w->whose.scope;
	if (record->kind == RECORD_STAYS) {
		r->made.address[0] = bpf_cpu_to_be64(record->value.hi);
		r->made.address[1] = bpf_cpu_to_be64(record->value.lo);
		r->made.check = check_of(&r->made);
		return 1;
	}
	number = w->who.maker;
	maker = bpf_map_lookup_elem(&makers, &number);
	if (!maker || maker->generation != generation)
		return 0;
	r->made.renew = maker->renew;
	r->payload.hi = record->is_short ? 0 : record->value.hi;
	r->payload.lo = record->value.lo;
	r->hashed[0] = bpf_cpu_to_be64(record->client);
	r->hashed[1] = r->hashed[2] = r->hashed[3] = 0;
	if (record->kind == RECORD_BY_PREFIX) {
		hash_prefix(w);
		if (maker->session_mask)
			fill_session(maker, r);
	}
	return 1;
}
