/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* All maps of the dispatcher. Sizes marked "resized" are set before loading. */
#pragma once
#include "event.h"
#include "flow_types.h"
#include "reason.h"
#include "site.h"

#define RING_SIZE 65537
#define FLOWS 65536
#define FILTER_LINES 512
#define FRAGMENTED 4096
#define BUCKET_TOO_BIG MAX_TIERS /* after the tiers' buckets: those of ICMP errors */
#define BUCKET_NO_SERVER (MAX_TIERS + 1)
#define BUCKET_EXPIRED (MAX_TIERS + 2)
#define BUCKET_UNKNOWN_ERRORS (MAX_TIERS + 3) /* ICMP errors about flows that are not known here */
#define BUCKET_RESUMED (MAX_TIERS + 4) /* resumed flows of each cluster */
#define BUCKETS (BUCKET_RESUMED + MAX_CLUSTERS)

#define BUCKET_SETS 8192

#define DECODED 32768

/* Settings that are not part of a snapshot. */
struct config {
	__s64 clock_offset; /* nanoseconds to add to the kernel's clock for unix time */
	__u64 tick;	    /* nanoseconds of a tick (jiffy), which the clock counts; 0: not known, it is the coarse clock */
	__u64 now;          /* where not 0: the unix time in nanoseconds to use, for tests */
	__u32 sample;       /* a packet sends an event with probability sample / 2^32 */
	__u32 watched;      /* number of entries in map `watches` */
	__u32 trace;        /* write the last verdict into map `last`, for tests */
	__u32 user_space;   /* whether a process takes packets handed to user space; else they are dropped */
	__u32 generation;   /* rises with every change of what addresses mean */
	__u32 marked;       /* every flow to a forged address has its mark in the filter (STRAY) */
	__u32 use_share;    /* how many entries of map `uses` one client may have */
	__u32 drops;        /* as `sample`, of packets that are dropped or answered */
	__u32 enclosed;     /* all known flows go to clusters of the site */
	__u32 unused;
};

struct config config ALONE("config");

struct site_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE); /* starts at a page, so cache lines are whole */
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct site);
} site0 SEC(".maps");

/* The snapshot in force. Replacing the one entry replaces it for every later packet. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct site_map);
} sites SEC(".maps") = {.values = {[0] = &site0}};

/* A place takes as many bits as the pool's servers need, so the ring of a small pool stays in the processor's cache. */
struct ring {
	__u16 bits;                 /* of a place: 1, 2, 4, 8 or 16 */
	__u16 servers[MAX_SERVERS]; /* server numbers, indexed by the values of the places */
	__u16 places[RING_SIZE + 2];
};

struct ring_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ring);
} ring0 SEC(".maps"); /* the template of the inner maps; not used itself */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, MAX_RINGS);
	__type(key, __u32);
	__array(values, struct ring_map);
} rings SEC(".maps");

/* The numbers of the rings that addresses had last, by their hashes: so that what a flow will need of its pool is fetched
 * while its address is (select.h). */
#define HINTS 32 /* to a line */
#define HINT_LINES 1024

struct hint_line {
	__u16 rings[HINTS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, HINT_LINES);
	__type(key, __u32);
	__type(value, struct hint_line);
} ring_hints SEC(".maps");

struct prefix6 {
	__u32 bits;
	__be64 address[2];
} __attribute__((packed));

struct prefix4 {
	__u32 bits;
	__be32 address;
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, MAX_CLUSTERS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix6);
	__type(value, __u32); /* cluster */
} prefixes6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, MAX_CLUSTERS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix4);
	__type(value, __u32); /* cluster */
} prefixes4 SEC(".maps");

/* Value tables: tier codes, class addresses, attribute values. Immutable; a changed table gets a new number. */
struct value_key {
	__u32 table;
	__u32 zero;
	__u64 value;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 262144);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct value_key);
	__type(value, __u32);
} values SEC(".maps");

/* Masks of rules by the values of conditions that are wide, and by client ids (routes.h). */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1048576);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct value_key);
	__type(value, __u64);
} masks SEC(".maps");

struct client {
	__u32 tier; /* NONE: no such tier, use the address's own */
	__u8 enabled;
	__u8 proof_required;
	__u8 single_use;
	__u8 bind_address;
	__u8 bind_port;
	__u8 ended; /* none of its packets passes, those of known flows included */
	__u16 pool; /* of its own, or its own servers; NO_POOL */
	__u8 networks_only; /* its issued addresses from its own networks only */
	__u8 unused[3];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4194304);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64); /* client id */
	__type(value, struct client);
} clients SEC(".maps");

/* The rules that the attributes of a client allow where its network tells who it is (routes.h). */
struct client_mask_key {
	__u64 client;
	__u32 cluster;
	__u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096); /* resized */
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct client_mask_key);
	__type(value, __u64);
} client_masks SEC(".maps");

/* The networks of clients (networks.h). */
struct network_key {
	struct wide address; /* without the bits after the prefix; IPv4: in the last 32 bits */
	__u32 length;	     /* of IPv4: with the 96 bits before */
	__u32 kind;	     /* twice the step (0 ecs, 1 source), and 1 of IPv4 */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096); /* resized */
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct network_key);
	__type(value, __u64); /* client id; 0: one that is not enabled */
} networks SEC(".maps");

#define NETWORK_LENGTHS 258

/* Kind << 8 | length of the networks that there may be, in the order to look for them. */
struct network_lengths {
	__u32 count[2]; /* of IPv6, of IPv4 */
	__u16 order[2][NETWORK_LENGTHS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct network_lengths);
} network_lengths SEC(".maps");

struct client_key_name {
	__u64 client;
	__u32 master; /* the cluster whose client master it is derived from */
	__u32 zero;
};

struct client_key {
	__u64 words[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8388608);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct client_key_name);
	__type(value, struct client_key);
} client_keys SEC(".maps");

/* A cached address: one cache line, in one of two places (cache.h). Only of authentic addresses. `check` covers the
 * other members, so a line half written by another processor does not match. */
struct decoded {
	struct wide address; /* whole, tag verified, where `generation` is set; else without its tag */
	struct wide payload;
	__u64 identity; /* of the epoch's key */
	__u64 check;
	__u32 generation; /* config.generation when `tier` was determined; 0: only the payload is valid */
	__u32 tier;
	__u32 deadline; /* the first second at which the address has expired; 0: never */
	struct route route;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, DECODED); /* resized: a power of two */
	__type(key, __u32);
	__type(value, struct decoded);
} decoded SEC(".maps");

/* The connection key table (flow.h). Records of new flows are a ring in which the next flow evicts the oldest.
 * Established flows are never evicted; where their part is full, flows stay new. Mappable maps start at a page, so
 * their cache lines are whole. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, FLOWS); /* resized */
	__type(key, __u32);
	__type(value, struct flow);
} flows SEC(".maps");

/* What each client has used; 0: those for whom there was no space. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536 + 1);
	__type(key, __u64); /* client id */
	__type(value, struct usage);
} usage SEC(".maps");

struct row {
	__u32 words[16]; /* rows.h */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, FLOWS); /* resized: a power of two */
	__type(key, __u32);
	__type(value, struct row);
} rows SEC(".maps");

/* Filter of known flows and cached addresses (filter.h): words of 32 bits, sixteen to a line. */
struct filter_line {
	__u32 words[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, FILTER_LINES); /* resized: two filters, each a power of two */
	__type(key, __u32);
	__type(value, struct filter_line);
} filters SEC(".maps");

/* Free places of established flows. */
struct {
	__uint(type, BPF_MAP_TYPE_STACK);
	__uint(max_entries, FLOWS); /* resized */
	__type(value, __u32);
} spare SEC(".maps");

struct lanes lanes ALONE("lanes");

/* How many established flows the clients have, by place_of. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PLACES);
	__type(key, __u32);
	__type(value, __u64);
} places SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, FRAGMENTED);
	__type(key, struct fragment_key);
	__type(value, struct remembered);
} fragments SEC(".maps");

/* The last second until which a fragment is remembered, of those with one hash (fragments.h): for nearly all others it
 * is one read that says so. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FRAGMENTED);
	__type(key, __u32);
	__type(value, __u32);
} fragment_marks SEC(".maps");

struct use_key {
	__be64 address[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FLOWS / 4); /* resized */
	__type(key, struct use_key);
	__type(value, struct used);
} uses SEC(".maps");

/* The addresses of servers under nat, with their IP versions. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_SERVERS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct use_key);
	__type(value, __u32);
} translated SEC(".maps");

/* How many entries of `uses` each client has. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FLOWS / 4); /* resized */
	__type(key, __u64);
	__type(value, __u64);
} use_shares SEC(".maps");

/* How many there have been in one slot. */
struct slot_count {
	__u32 ends; /* the first second after the slot */
	__u32 number;
};

/* Bad proofs of source networks in one slot of a cluster (guesses.h). */
struct guesser {
	__be64 network; /* the first half of the source */
	__u32 cluster;
	__u32 zero;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct guesser);
	__type(value, struct slot_count);
} guesses SEC(".maps");

/* Relayed flows that each client has opened, by its id (guesses.h). */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, struct slot_count);
} relayed SEC(".maps");

/* Replies under nat: from the key of a reply to the key of its flow. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FLOWS); /* resized */
	__type(key, struct flow_key);
	__type(value, struct flow_key);
} replies SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, BUCKETS);
	__type(key, __u32);
	__type(value, struct bucket);
} buckets SEC(".maps");

/* Policing's buckets of tiers. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_TIERS);
	__type(key, __u32);
	__type(value, struct bucket_pair);
} policing_buckets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_TIERS);
	__type(key, __u32);
	__type(value, struct policed);
} policed SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, BUCKET_SETS); /* resized: a power of two */
	__type(key, __u32);
	__type(value, struct bucket_set);
} client_buckets SEC(".maps"), source_buckets SEC(".maps");

/* The next hop to a server, by bpf_fib_lookup, valid for a while, and what has gone there: beside each other, as every
 * forwarded packet needs both. */
struct hop {
	__u64 until; /* unix nanoseconds */
	__u32 interface;
	__u32 back; /* it is the one that packets come from */
	__u8 destination[6];
	__u8 source[6];
	__u32 known; /* ever resolved */
	__u64 packets;
	__u64 bytes; /* of IP packets as they came */
	__u64 flows; /* recorded */
	__u64 unused_word;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_SERVERS);
	__type(key, __u32);
	__type(value, struct hop);
} hops SEC(".maps");

/* Of the packets with one reason and one action; its index is reason + REASONS * action. */
struct counter {
	__u64 packets;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, REASONS * ACTIONS);
	__type(key, __u32);
	__type(value, struct counter);
} counters SEC(".maps");

/* Flows recorded, by the tier that they were opened in. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_TIERS);
	__type(key, __u32);
	__type(value, __u64);
} opened SEC(".maps");

/* Flows recorded whose pool a rule or their client decided, by cluster and rule. */
#define ROUTES_EACH (RULE_OWN + 1)

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_CLUSTERS * ROUTES_EACH);
	__type(key, __u32);
	__type(value, __u64);
} routed SEC(".maps");

/* Packets dropped and answered, by the cluster of their destination. */
struct cluster_drops {
	__u64 dropped;
	__u64 answered;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_CLUSTERS);
	__type(key, __u32);
	__type(value, struct cluster_drops);
} cluster_drops SEC(".maps");

/* Events counted beside a packet's one reason. */
enum side {
	SIDE_TO_USER_SPACE, /* handed to user space: to be held, hop limit over, or no next hop known */
	SIDE_NO_NEXT_HOP,
	SIDE_KEPT_NEW,       /* a flow stayed new: no space among the established */
	SIDE_NOT_REMEMBERED, /* a new flow was not recorded: no space in two rows, or none gave way */
	SIDE_DECRYPTED,      /* a payload that was not in the decode cache */
	SIDE_EVENT_LOST,
	SIDE_NOT_SENT, /* no headroom in the frame for a header */
	SIDE_CLIENT_SHARED, /* no room for a bucket of a client's own: it shares its tier's */
	SIDE_SOURCE_SHARED, /* the same of a source */
	SIDE_GUESS_REFUSED, /* a proof that was not verified: its network has sent too many bad ones */
	SIDE_LABEL_IGNORED, /* a flow label that is no claim of its client's */
	SIDES
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SIDES);
	__type(key, __u32);
	__type(value, __u64);
} sides SEC(".maps");

/* The names behind numbers, so that they survive a restart of user space (id_allocator.py). */
struct name_key {
	__u32 kind;
	__u32 number;
};

struct name {
	__u8 text[176];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct name_key);
	__type(value, struct name);
} names SEC(".maps");
