/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What one packet's way through the program is written on: per processor, so that the stack stays small.
 * Nothing in it outlives the packet but the cached second. */
#pragma once
#include "maps.h"

enum action { ACTION_FORWARD, ACTION_DROP, ACTION_ANSWER, ACTION_PASS };

/* As dnsvip.dispatcher.verdict.Verdict. */
struct verdict {
	__u64 hash;    /* under encap */
	__be64 vip[2]; /* of a reply under nat */
	__u32 server;  /* NONE */
	__u32 mtu;     /* what an answer for too-big tells */
	__u8 action;
	__u8 reason;
	__u8 dscp;
	__u8 mode;
	__be16 port; /* under nat: what stands in place of the client's port */
	__u8 reply;
	__u8 held; /* has to wait for its turn: in user space */
};

struct address_verdict {
	__u64 client;
	__u64 session;
	__u32 cluster;
	__u32 tier; /* NONE: none */
	__u8 reason;
	__u8 single; /* asked for a single use */
	__u16 unused;
};

struct work {
	__u64 now; /* unix nanoseconds */
	__u64 second_start;
	__u32 seconds;
	__u32 cluster; /* found last */
	__u32 ring;    /* chosen from last */
	__u32 maybe_decoded;  /* the packet's destination may have been decoded before */
	__u64 client; /* of the packet's flow, as far as it is known */
	__u64 address_hash; /* of the packet's destination, */
	__u64 index_hash;   /* and of its flow: where they are looked for; */
	__u64 flow_hash;    /* by what a server is chosen for it */
	__u64 decoded_hash; /* where the decode cache has the destination: an issued address by its whole, a proven one,
			       whose tag goes by the minute, by all else */
	struct packet packet;
	struct verdict verdict;
	struct address_verdict address_verdict;
	struct use_key use;
	__u64 block[2]; /* FF1 */
	__u64 stream[2];
	struct decoded decoded; /* what is written into the decode cache */
	struct wide payload;
	struct remembered use_made; /* what is written into map `uses` */
	struct event event;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct work);
} works SEC(".maps");

/* The last verdict, for tests (config.trace). */
struct last {
	__u32 reason;
	__u32 action;
	__u32 server;
	__u32 held;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct last);
} last SEC(".maps");

static __always_inline struct work *work(void)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&works, &key);
}

static __always_inline struct config *settings(void)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&config, &key);
}

static __always_inline struct site *current_site(void)
{
	__u32 key = 0;
	void *inner = bpf_map_lookup_elem(&sites, &key);

	return inner ? bpf_map_lookup_elem(inner, &key) : NULL;
}

static __always_inline void count_side(__u32 side)
{
	__u64 *count = bpf_map_lookup_elem(&sides, &side);

	if (count)
		(*count)++;
}

/* The time, once per packet. The clock is the coarse one (a few milliseconds), which costs a tenth of the fine one. */
static __always_inline void read_clock(struct work *w, const struct config *c)
{
	__u64 now = c->now ? c->now : bpf_ktime_get_coarse_ns() + c->clock_offset;

	w->now = now;
	if (now - w->second_start >= NANOSECONDS) {
		w->seconds = now / NANOSECONDS;
		w->second_start = w->seconds * NANOSECONDS;
	}
}

static __always_inline void set_verdict(struct verdict *v, __u8 action, __u8 reason)
{
	v->action = action;
	v->reason = reason;
}
