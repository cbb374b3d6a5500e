/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* A snapshot as the program reads it: one immutable value, replaced as a whole (map `sites`). Python packs it by
 * member names (dnsvip/dispatcher/io/xdp/image.py). Host byte order unless the type says be. */
#pragma once
#include "types.h"

/* The most that a site may have of each. */
enum bounds {
	MAX_CLUSTERS = 64,
	MAX_TIERS = 256,
	MAX_POOLS = 512, /* with sets of clients' own servers */
	MAX_SERVERS = 4096,
	MAX_ATTRIBUTES = 16, /* of one cluster */
	MAX_RINGS = 2048, /* of each pool one for IPv4 and IPv6, of two sites: all may change at once */
	MAX_CIPHERS = 1024, /* of addresses and of clients' own, of two sites */
	EPOCH_SLOTS = 4,
	MAX_RULES = 64,     /* of one cluster: the bits of a mask */
	MAX_CONDITIONS = 16, /* attributes that the rules of one cluster name */
	MAX_MASKS = 16384,
	MAX_PEERS = 16, /* other dispatchers (relay.h) */
};

/* Where a flow goes. */
struct route {
	__u16 pool; /* NO_POOL: none */
	__u8 dscp;
	__u8 rule; /* from 1; 0: by the tier; RULE_OWN: by the client's own pool or servers */
};

enum routed { NO_POOL = 0xffff, RULE_OWN = MAX_RULES + 1 };

/* How an address tells who its client is (dnsvip/dispatcher/routes.py). */
enum evidence { EVIDENCE_PROVEN, EVIDENCE_ISSUED, EVIDENCE_PLAIN, EVIDENCE_SOURCE, EVIDENCE_RESUMED };

struct epoch {
	__u64 mac_key[2];   /* SipHash: k0, k1 */
	struct wide mid;    /* FF1: AES of its constant block P */
	__u64 activated_at; /* unix seconds; 0: not known to be active yet */
	__u64 identity;     /* a digest of its key, which identifies it in the decode cache */
	__u32 cipher;       /* its context in map `ciphers` */
	__u32 present;
	__u64 unused;
};

/* The position of a field in the payload; bits 0: the layout has none. `table`: its valid values. */
struct field {
	__u32 shift;
	__u32 bits;
	__u32 table;
};

/* Whose payload it is: of an encoded VIP, or of a client's own address (own.h). */
enum carrier { IN_VIP, IN_SOURCE, CARRIERS };

/* The fields of a payload. */
struct fields {
	struct field tier;
	struct field client;
	struct field expiry;
	struct field session;
	struct field attributes[MAX_ATTRIBUTES]; /* those with tables: of the layout, then claims, then those of labels */
	__u32 attribute_count; /* of the layout alone */
	__u32 claim_count;
	__u32 label_count;
	__u32 unused;
};

/* The masks of the rules that each value of a field allows: those of a narrow one in `site.masks`, others in map
 * `masks` by `table`. */
struct condition {
	struct field field[CARRIERS]; /* their tables are not used */
	__u32 table;
	__u32 first; /* NONE: in the map */
	__u64 others; /* of values that are not in the map */
};

/* The rules of a cluster. The AND of the masks of all conditions has the bits of those that fit. */
struct rules {
	__u64 evidence[8]; /* by enum evidence */
	__u64 nobody; /* without client and attributes */
	__u32 count;
	__u32 tiers; /* the first mask by tier in `site.masks`; NONE: no rule names one */
	__u32 conditions;
	__u32 names_clients;
	struct condition client;
	struct condition condition[MAX_CONDITIONS];
	struct route routes[MAX_RULES]; /* with NO_DSCP: the tier's */
	__u8 priorities[MAX_RULES]; /* NO_PRIORITY: the tier's */
};

/* Clients' own addresses that a cluster reads. */
struct own {
	struct epoch epochs[EPOCH_SLOTS];
	__u32 present;
	__u32 tag_bits;
	__u32 payload_bits;
	__u32 unused;
};

struct cluster {
	/* What every packet of a new flow is compared with: two cache lines. */
	__be64 prefix[2];  /* IPv4: in the last four bytes, */
	__be64 mask[2];    /* with all bits before them set */
	__u32 present;
	__u32 version; /* 4: class addresses by the table of field `tier`, host address -> tier */
	struct wide plain; /* IPv4: in the low 32 bits */
	struct wide mac_mask;
	struct wide mode_bit;
	__u64 tag_mask;
	__u64 cheap_mask; /* the top c bits of the tag */
	__u32 epoch_shift;
	__u32 tag_bits;
	__u32 payload_bits;
	__u32 proof_bits;
	__u32 default_tier;
	__u32 fallback_tier; /* for rejected addresses: on_invalid */

	struct epoch epochs[EPOCH_SLOTS];
	struct fields fields[CARRIERS];
	__u32 expiry_unit;
	__u32 slot_seconds;
	__u32 session_seconds;
	__u32 master; /* identifies its client keys in map `client_keys`; NONE: it has none */
	__u32 expired_tier;   /* for expired addresses: on_expired */
	__u32 resets_expired; /* packets to expired addresses are answered */
	__u32 shared_shift;   /* the place of the session's bit that makes it not one client's alone; 0: none */
	__u32 resume_interval; /* nanoseconds for a token, for each resumed flow; 0: none is */
	__u32 identify_source; /* a flow is that of the client whose network it comes from (networks.h) */
	__u32 claim_bits;      /* a payload has room for claims and labels in its lowest bits, labels last; 0: none */
	__u32 label_bits;      /* of the claims in a flow label */
	__u32 label_mac_bits;  /* 0: labels say nothing */
	struct wide claim_mask; /* the claims' bits of an address */
	struct own own;
	__u32 padding[12]; /* to a cache line */
	struct rules rules;
};

_Static_assert(!(sizeof(struct cluster) & 63), "a cluster takes whole cache lines");

struct tier {
	__u32 present;
	__u32 pool; /* NONE: no pool */
	__u64 interval; /* nanoseconds for a token; 0: no rate */
	__u64 burst;
	__u64 debt;
	__u8 drop;
	__u8 require_proof;
	__u8 unproven_default; /* an unproven address gets the default tier */
	__u8 dscp;             /* NO_DSCP: unchanged */
	__u8 over_passes; /* packets over the rate are forwarded */
	__u8 rate_per;    /* who shares the rate: enum per */
	__u8 end_flows;   /* with `drop`: of known flows too */
	__u8 priority;
	__u8 networks_only; /* issued addresses from their clients' networks only */
	__u8 unused[23];

	/* Policing, read where bit `policed` of the site is set (policing.h). */
	__u64 police_bytes;   /* 2^-20 nanoseconds for a byte; 0: no limit */
	__u64 police_packets; /* nanoseconds for a packet; 0: no limit */
	__u64 police_burst;   /* nanoseconds of both */
	__u8 police_per;      /* enum per */
	__u8 police_marks;    /* packets over a limit are marked, not dropped */
	__u8 padding[38];
};

enum per { PER_TIER, PER_CLIENT, PER_SOURCE };
enum stickiness { STICKY_FLOW, STICKY_CLIENT, STICKY_SESSION };
enum mode { MODE_DIRECT, MODE_ENCAP, MODE_NAT };

struct pool {
	__u32 ring4; /* in map `rings`, for new flows of IPv4; NONE: no server takes any */
	__u32 ring6;
	__u32 stickiness;
	__u32 own; /* a set of clients' own servers */
	__u8 translates4; /* IPv4 servers of it are under nat */
	__u8 translates6;
	__u16 padding;
	__u32 unused[3];
};

struct server {
	__be64 address[2]; /* IPv4: in the last four bytes */
	__u32 pool;
	__u32 path_mtu; /* the largest IP packet that reaches it, before encapsulation */
	__u8 version;
	__u8 mode;
	__u8 keeps; /* keeps its flows: up or draining, and reachable */
	__u8 peer;  /* another dispatcher, or a former one */
	__u32 home; /* the pool that it is in, where `pool` is a set of clients' own servers */
};

struct peer {
	__be64 address[2];
	__u32 server; /* its number */
	__u32 unused;
};

/* The other dispatchers that live (dispatcher/peers.py). */
struct peers {
	__u64 key[2]; /* SipHash, of the marks of what is relayed; 0: there is none, and nothing is taken */
	__be64 own[2];
	__u32 count;
	__u32 unused;
	struct peer peer[MAX_PEERS];
};

struct site {
	__be64 encap_source; /* the upper half of outer source addresses */
	__u32 translates;    /* there is, or was, a pool under nat: look for replies */
	__u32 ranked;        /* tiers and rules have several priorities */
	__u64 policed[MAX_TIERS / 64]; /* a bit for each tier: whether it is policed */
	__u32 shares; /* there are other dispatchers: `peers` */
	__u32 lowest; /* the lowest priority of tiers and rules, or the only one */
	__u32 padding[2];
	struct cluster clusters[MAX_CLUSTERS];
	struct tier tiers[MAX_TIERS];
	struct pool pools[MAX_POOLS];
	struct server servers[MAX_SERVERS];
	__u64 masks[MAX_MASKS];
	struct peers peers;
};
