/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The working memory of one packet: per processor, so that the stack stays small. Nothing in it outlives the packet
 * but the cached cluster. */
#pragma once
#include "maps.h"
#include "aes.h"

/* As dnsvip.dispatcher.verdict.Verdict. */
struct verdict {
	__u64 hash;    /* selects the outer source address, under encap */
	__be64 vip[2]; /* the source of a reply under nat */
	__u32 server;  /* NONE */
	__u32 mtu;     /* the MTU in an ICMP error about a packet too big */
	__u8 action;
	__u8 reason;
	__u8 dscp;
	__u8 mode;
	__be16 port; /* under nat: replaces the client's port */
	__u8 reply;
	__u8 held; /* has to wait for a token, in user space */
};

struct address_verdict {
	__u64 client;
	__u64 session;
	__u32 cluster;
	__u32 tier; /* NONE: none */
	__u8 reason;
	__u8 single; /* a single-use address */
	__u8 reserved; /* its use has a new entry in map `uses` */
	__u8 routed;   /* `route` is set */
	struct route route;
	__u8 unproven; /* resumed although its proof does not hold */
	__u8 bound;    /* the client's proofs are bound to its address */
	__u8 unused[2];
};

enum again { AGAIN_NOT, AGAIN_UNANSWERED, AGAIN_ANSWERED };

struct work {
	__u64 now; /* unix nanoseconds, */
	__u32 seconds;
	__u32 cluster; /* of the packet before */
	__u8 maybe_decoded;   /* the packet's destination may be in the decode cache */
	__u8 forged;          /* the packet's destination is known to be forged */
	__u8 running;         /* the packet is of a new flow, and not the first of it */
	__u8 again;           /* whether the packet is a SYN on a known flow: enum again */
	__u32 dscp; /* of a new flow: that of the packet may be marked (policing.h) */
	__u64 client; /* of the packet's flow, where known */
	__u16 recorded; /* the packet's flow has been recorded */
	__u16 counted;  /* it has been counted in its flow (usage.h) */
	__u32 network_known; /* `network` is of this packet */
	__u64 network;       /* the client that the packet's source identifies; 0: none */
	__u32 slot;          /* that the packet's proof is right for */
	__u32 label;         /* the packet's flow label; 0: none */
	__u32 carrier;       /* whose `payload` is: enum carrier */
	__u32 decrypted;     /* `payload` was not in the decode cache */
	__u32 key_known;     /* `key` and `bound` are those of the packet's client (proof.h) */
	__u32 has_key;
	__u64 key[2];
	__be64 bound[2]; /* what its client binds proofs to, zeros where it does not */
	__u64 bound_port;
	__u32 by_network;    /* the flow's client is known by its network, and no payload says more */
	__u32 unrecorded;    /* the packet is relayed for itself: there is nothing to record */
	__u32 priority;      /* of the flow that is recorded or renewed: the stack has no room */
	__u32 shares; /* there are other dispatchers */
	__u32 step; /* how another dispatcher has relayed the packet (relay.h); 0: it has not */
	__u32 first, second; /* the owner of its key, and who would be without: server numbers, NONE for ourselves */
	__u64 address_hash; /* hash of the packet's destination */
	__u64 index_hash;   /* hash of its flow's key */
	__u64 flow_hash;    /* the hash that selects its server */
	__u64 decoded_hash; /* hash in the decode cache: of an issued address, or of a proven one without its tag, which
			       changes every minute */
	struct packet packet;
	struct verdict verdict;
	struct address_verdict address_verdict;
	struct use_key use;
	struct wide mid;  /* FF1: of the key, */
	__u32 cipher;
	__u32 bits;       /* of the ciphertext in `decoded.payload`, */
	__u32 room;       /* and with how many the payload begins that it does not have */
	__u32 padding;
	struct half half;
	__u64 masks[2];   /* FF1: of the first half of the payload, and of the second */
	__u64 block[2];
	__u64 stream[2];
	struct decoded decoded; /* to be written into the decode cache */
	struct wide payload;
	struct value_key value_key; /* of what is looked up: the stack has no room */
	__u64 deadline; /* the first second at which the packet's address has expired */
	struct used use_made; /* to be written into map `uses` */
	struct event event;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct work);
} works SEC(".maps");

/* All that a packet of an established flow needs to have of its own processor's, in one line. */
struct pace {
	__u64 now; /* unix nanoseconds */
	__u64 second_start;
	__u32 seconds;
	__u32 cluster; /* of the packet before */
	struct counter known; /* what the straight way of established flows has forwarded; in no other counter */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pace);
} paces SEC(".maps");

/* The last verdict, for tests (config.trace). */
struct last {
	__u32 reason;
	__u32 action;
	__u32 server;
	__u32 held;
};

struct last last ALONE("last");

static __always_inline void trace(__u32 reason, __u32 action, __u32 server, __u32 held)
{
	last.reason = reason;
	last.action = action;
	last.server = server;
	last.held = held;
}

static __always_inline struct pace *pace(void)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&paces, &key);
}

static __always_inline struct work *work(void)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&works, &key);
}

static __always_inline struct config *settings(void)
{
	return &config;
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

/* Reads the clock once per packet: ticks of some milliseconds, which cost a load. (The kernel's coarse clock is as fine, at
 * the price of a call and three cache lines.) */
static __always_inline void read_clock(struct pace *own, const struct config *c)
{
	__u64 now = c->now;

	if (!now)
		now = (c->tick ? bpf_jiffies64() * c->tick : bpf_ktime_get_coarse_ns()) + c->clock_offset;

	own->now = now;
	if (unlikely(now - own->second_start >= NANOSECONDS)) {
		own->seconds = now / NANOSECONDS;
		own->second_start = own->seconds * NANOSECONDS;
	}
}

static __always_inline void set_verdict(struct verdict *v, __u8 action, __u8 reason)
{
	v->action = action;
	v->reason = reason;
}
