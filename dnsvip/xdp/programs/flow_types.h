/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* State that lives longer than a packet. Times are whole unix seconds unless a name says otherwise. The names here
 * are part of the layout by which a new program takes over the maps of an earlier one (xdp/pinned.py): renaming one
 * loses flows. */
#pragma once
#include "packet.h"

#define NEW_SECONDS 30
#define CLOSING_SECONDS 60
#define DATAGRAM_SECONDS 180
#define RETRY_SECONDS 60
#define YOUNG_SECONDS 120
#define ANONYMOUS_SHARE 2 /* one part in so many of the established flows' places may have anonymous ones */
#define FRAGMENT_SECONDS 60

enum flow_state { FLOW_NONE, FLOW_NEW, FLOW_ESTABLISHED };

struct flow {
	struct flow_key key;
	__u64 hash;   /* what its server was selected by */
	__u64 client; /* 0: anonymous */
	__u32 word;   /* its word in map `rows`; 0: not in the index yet */
	__u32 place;  /* where that word is: row * 16 + column */
	__u32 owner;  /* server number << 8 | DSCP, as DispatchTables.owner_of */
	__u32 seen;
	__u32 life;  /* idle timeout in seconds, once answered */
	__be16 port; /* the client's port as the server sees it, under nat */
	__u8 state;
	__u8 closing;
	__u8 translated; /* it has an entry in `replies` */
	__u8 answered;   /* the client has gone on after its first packet (TCP: with a segment other than SYN) */
	__u8 anonymous;  /* its address is not authentic */
	__u8 unused;
	__u32 opened;
};

/* The connection key table as a whole. Only sweeps write the first cache line. */
struct lanes {
	__u64 key[6];     /* secret, of the hashes of flows and addresses: nobody can construct collisions */
	__u32 new_places; /* records of new flows, the first in map `flows`; the rest are of established ones */
	__u32 row_mask;    /* rows of map `rows`, less one */
	__u32 number_mask; /* the low bits of an index word that hold a number */
	__u32 phase;       /* of sweeps (filter.h) */

	__u64 cursor;      /* new flows recorded so far, plus one */
	__u64 established; /* established flows */
	__u64 anonymous;   /* those among them */
	__u32 established_places;
	__u32 used; /* places of established flows used so far; those free again are in map `spare` */
	__u64 padding[4];
};

/* The flow of a fragmented packet or of a proven address, and the last second it is valid. */
struct remembered {
	struct flow_key key;
	__u32 until;
	__u32 ended; /* of a proven address: the client has gone on after its SYN, another one is another connection */
};

/* A token bucket: the unix nanosecond at which it is full again (dispatcher/token_bucket.py). */
struct bucket {
	__u64 full;
};
