/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What it costs to find whose prefix an address is in: by the kernel's LPM trie, by its hash with a look-up for each
 * prefix length, and by sorted runs in lines of a cache, as PrefixTable has them (site/identity/prefixes.py). Prefix n of
 * `count` is a /48, in order and at odd distances. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define LENGTH 48
#define FANOUT 8
#define LEVELS 10
#define TOP 0x2000000000000000ULL
#define LAST 0x7fffffffffffffffULL /* behind all of them */

enum way { LPM, HASHED, RUNS };

struct order {
	__u32 way;
	__u32 count;
	__u32 first;
	__u32 number; /* of prefixes to write, or of look-ups */
	__u32 among;  /* look-ups are of so many prefixes */
	__u32 found;
	__u64 ns;
	__u32 level[LEVELS]; /* the first line of each, the leaves last */
	__u32 levels;
	__u32 answer;
};

struct prefix {
	__u32 length;
	__u64 address[2];
} __attribute__((packed));

struct network {
	__u64 address;
	__u64 length;
};

struct line {
	__u64 start[FANOUT];
};

struct owners {
	__u32 of[FANOUT];
};

#include "orders.h"

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix);
	__type(value, __u32);
} trie SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct network);
	__type(value, __u32);
} hash SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct line);
} lines SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct owners);
} owners SEC(".maps");

static __always_inline __u64 mixed(__u64 n)
{
	n *= 0x9e3779b97f4a7c15ULL;
	n ^= n >> 32;
	n *= 0xbf58476d1ce4e5b9ULL;
	return n ^ n >> 29;
}

/* Where a prefix begins, between 2000:: and 3fff::. */
static __always_inline __u64 start_of(__u32 n, __u32 count)
{
	__u64 stride = (1ULL << 45) / (count + 1);

	return TOP + ((n * stride + mixed(n) % (stride - 1)) << (64 - LENGTH));
}

/* Where run n begins: a prefix and what is behind it, in turn. */
static __always_inline __u64 run_of(__u32 n, __u32 count)
{
	__u64 start = start_of(n / 2, count);

	if (n / 2 >= count)
		return LAST;
	return n & 1 ? start + (1ULL << (64 - LENGTH)) : start;
}

static long write_one(__u32 i, struct order *o)
{
	__u32 n = o->first + i, owner = n + 1;

	if (o->way == LPM) {
		struct prefix key = {.length = LENGTH, .address = {__builtin_bswap64(start_of(n, o->count))}};

		bpf_map_update_elem(&trie, &key, &owner, 0);
	} else if (o->way == HASHED) {
		struct network key = {.address = start_of(n, o->count), .length = LENGTH};

		bpf_map_update_elem(&hash, &key, &owner, 0);
	}
	return 0;
}

/* Line i of the leaves and the owners of its runs; above the leaves, the line whose children begin at `first`. */
static long write_line(__u32 i, struct order *o)
{
	__u32 number = o->level[0] + i, run, at, child;
	struct line *line = bpf_map_lookup_elem(&lines, &number), *below;
	struct owners *own;

	if (!line)
		return 1;
	for (at = 0; at < FANOUT; at++) {
		run = i * FANOUT + at;
		child = o->first - 1 + run;
		if (!o->first) {
			line->start[at] = run_of(run, o->count);
		} else {
			below = run < o->among ? bpf_map_lookup_elem(&lines, &child) : NULL;
			line->start[at] = below ? below->start[0] : LAST;
		}
	}
	if (o->first)
		return 0;
	own = bpf_map_lookup_elem(&owners, &i);
	if (!own)
		return 1;
	for (at = 0; at < FANOUT; at++) {
		run = i * FANOUT + at;
		own->of[at] = run & 1 ? 0 : run / 2 + 1;
	}
	return 0;
}

static __always_inline __u32 by_runs(const struct order *o, __u64 address)
{
	__u32 place = 0, number, level, at, before;
	struct owners *own;
	struct line *line;

	for (level = 0; level < LEVELS; level++) {
		if (level >= o->levels)
			break;
		number = o->level[level] + place;
		line = bpf_map_lookup_elem(&lines, &number);
		if (!line)
			return 0;
		before = 0;
#pragma clang loop unroll(full)
		for (at = 0; at < FANOUT; at++) {
			__u64 behind = (address - line->start[at]) >> 63;

			asm volatile("" : "+r"(behind)); /* else clang makes a branch of it */
			before += 1 - behind;
		}
		place = place * FANOUT + (before - 1 & (FANOUT - 1)); /* the first begins no later */
	}
	number = place / FANOUT;
	own = bpf_map_lookup_elem(&owners, &number);
	return own ? own->of[place & (FANOUT - 1)] : 0;
}

static long find_one(__u32 i, struct order *o)
{
	__u32 n = mixed(i + o->answer) % o->among; /* none begins before the one before has ended */
	__u64 address = start_of(n, o->count) | (i & 0xffff);
	__u32 *owner = NULL, answer = 0;

	if (o->way == LPM) {
		struct prefix key = {.length = 128, .address = {__builtin_bswap64(address)}};

		owner = bpf_map_lookup_elem(&trie, &key);
	} else if (o->way == HASHED) {
		struct network key = {.address = address & ~0ULL << (64 - LENGTH), .length = LENGTH};

		owner = bpf_map_lookup_elem(&hash, &key);
	} else if (o->way == RUNS) {
		answer = by_runs(o, address);
	} else {
		answer = n + 1; /* what asking costs by itself */
	}
	if (owner)
		answer = *owner;
	o->found += answer == n + 1;
	o->answer = answer;
	return 0;
}

SEC("xdp")
int write(struct xdp_md *ctx)
{
	struct order *o = the_order(), own;

	if (!o)
		return XDP_ABORTED;
	own = *o;
	if (own.way == RUNS)
		bpf_loop(own.number, write_line, &own, 0);
	else
		bpf_loop(own.number, write_one, &own, 0);
	return XDP_DROP;
}

SEC("xdp")
int find(struct xdp_md *ctx)
{
	struct order *o = the_order(), own;
	__u64 began;

	if (!o)
		return XDP_ABORTED;
	own = *o;
	began = bpf_ktime_get_ns();
	bpf_loop(own.number, find_one, &own, 0);
	o->ns = bpf_ktime_get_ns() - began;
	o->found = own.found;
	return XDP_DROP;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
