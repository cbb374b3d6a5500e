/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* A snapshot as the program reads it: one immutable value, replaced as a whole (map `sites`). Python packs it by
 * member names (dnsvip/dispatcher/io/xdp/image.py). Host byte order unless the type says be. */
#pragma once
#include "types.h"

/* The most that a site may have of each. */
enum bounds {
	MAX_CLUSTERS = 64,
	MAX_TIERS = 256,
	MAX_POOLS = 256,
	MAX_SERVERS = 4096,
	MAX_ATTRIBUTES = 16, /* of one cluster */
	MAX_RINGS = 1024,
	MAX_CIPHERS = 512,
	EPOCH_SLOTS = 4,
};

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

struct cluster {
	/* What every packet of a new flow is compared with: two cache lines. */
	__be64 prefix[2];  /* IPv4: in the last four bytes, */
	__be64 mask[2];    /* with all bits before them set */
	struct wide plain; /* IPv4: in the low 32 bits */
	struct wide mac_mask;
	struct wide mode_bit;
	__u64 tag_mask;
	__u64 cheap_mask; /* the top c bits of the tag */
	__u32 present;
	__u32 version; /* 4: class addresses by table `tier.table`, host address -> tier */
	__u32 epoch_shift;
	__u32 tag_bits;
	__u32 payload_bits;
	__u32 proof_bits;
	__u32 default_tier;
	__u32 fallback_tier; /* for rejected addresses: on_invalid */

	struct epoch epochs[EPOCH_SLOTS];
	struct field tier;
	struct field client;
	struct field expiry;
	struct field session;
	__u32 expiry_unit;
	__u32 slot_seconds;
	__u32 session_seconds;
	__u32 master; /* identifies its client keys in map `client_keys` */
	struct field attributes[MAX_ATTRIBUTES];
	__u32 attribute_count;
	__u32 unused[15];
};

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
	__u8 unused[27];
};

enum stickiness { STICKY_FLOW, STICKY_CLIENT, STICKY_SESSION };
enum mode { MODE_DIRECT, MODE_ENCAP, MODE_NAT };

struct pool {
	__u32 ring4; /* in map `rings`, for new flows of IPv4; NONE: no server takes any */
	__u32 ring6;
	__u32 stickiness;
	__u32 unused;
};

struct server {
	__be64 address[2]; /* IPv4: in the last four bytes */
	__u32 pool;
	__u32 path_mtu; /* the largest IP packet that reaches it, before encapsulation */
	__u8 version;
	__u8 mode;
	__u8 keeps; /* keeps its flows: up or draining, and reachable */
	__u8 unused[5];
};

struct site {
	__be64 encap_source; /* the upper half of outer source addresses */
	__u32 translates;    /* there is, or was, a pool under nat: look for replies */
	__u32 unused[13];
	struct cluster clusters[MAX_CLUSTERS];
	struct tier tiers[MAX_TIERS];
	struct pool pools[MAX_POOLS];
	struct server servers[MAX_SERVERS];
};
