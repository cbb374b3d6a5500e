/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What is remembered between packets. Times are whole unix seconds unless a name says otherwise. */
#pragma once
#include "packet.h"

#define NEW_SECONDS 30
#define CLOSING_SECONDS 60
#define DATAGRAM_SECONDS 180
#define FRAGMENT_SECONDS 60

enum flow_state { FLOW_NONE, FLOW_NEW, FLOW_ESTABLISHED };

struct flow {
	struct flow_key key;
	__u64 hash;   /* what its server was chosen by */
	__u64 client; /* 0: anonymous */
	__u32 word;   /* by which map `rows` names it; 0: none does yet */
	__u32 place;  /* of that word: row * 16 + column */
	__u32 owner;  /* server number << 8 | DSCP, as Tables.owner_of */
	__u32 seen;
	__u32 life;  /* idle seconds until it is forgotten, once established */
	__be16 port; /* the client's at the server, under nat */
	__u8 state;
	__u8 closing;
	__u8 translated; /* it has an entry in `replies` */
	__u8 unused[7];
};

/* The connection key table as a whole. The first cache line is written by sweeps only. */
struct lanes {
	__u64 key[6];     /* of the hashes that spread flows and addresses: secret, so that nobody can make them meet */
	__u32 new_places; /* records of new flows, the first of map `flows`; the rest are of established ones */
	__u32 row_mask;    /* rows of map `rows`, less one */
	__u32 number_mask; /* the bits of a row's word that are a number, from the lowest */
	__u32 phase;       /* of sweeps (filter.h) */

	__u64 cursor;      /* new flows ever recorded, plus one */
	__u64 established; /* flows that are */
	__u32 established_places;
	__u32 used; /* places of established flows that were ever used; those free again are in map `spare` */
	__u64 padding[5];
};

/* The flow of a fragmented packet or of a proven address, and the last second that is remembered. */
struct remembered {
	struct flow_key key;
	__u32 until;
	__u32 unused;
};

/* A token bucket: the unix nanosecond at which it is full again (dispatcher/qos.py). */
struct bucket {
	__u64 full;
};
