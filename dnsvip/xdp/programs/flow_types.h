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
#define CLIENT_SHARE 4 /* once so small a part of them is left, no client with that many is given another */
#define PLACES 65536 /* counters of the clients' established flows */
#define ANONYMOUS_SHARE 2 /* one part in so many of the established flows' places may have anonymous ones */
#define FRAGMENT_SECONDS 60

/* Marks in the owner of a flow that has been ended with its client or its tier: it is no server's then. */
#define CLIENT_ENDED (1U << 31)
#define TIER_ENDED (1U << 30)
#define ENDED (CLIENT_ENDED | TIER_ENDED)
#define CLOSED_BY_END 2 /* in `closing` */
#define ANONYMOUS 1
#define TAKEN_OVER 2 /* resumed, and not judged as a new flow since */
#define STAYS_NEW 4  /* another dispatcher decides about it: it is never established */
#define PRIORITY_SHIFT 3

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
	__u8 anonymous;  /* ANONYMOUS: its address is not authentic; TAKEN_OVER; STAYS_NEW; above them its priority */
	__u8 tier;       /* that it was opened in */
	__u32 opened;
	__u32 packets; /* of its client, forwarded (usage.h) */
	__u32 counted; /* of those, and of the bytes, what is in map `usage` already */
	__u64 bytes;
	__u64 counted_bytes;
};

/* What a client has used (usage.h). */
struct usage {
	__u64 packets;
	__u64 bytes;
	__u64 flows;
	__u64 drops;
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
	__u32 bucket_mask; /* sets of maps `client_buckets` and `source_buckets`, less one */
	__u32 decoded_mask; /* pairs of entries of map `decoded`, less one */
	__u32 padding[6];
};

/* The flow of a fragmented packet, and the last second it is valid. */
struct remembered {
	struct flow_key key;
	__u32 until;
	__u32 unused;
};

/* The flow of a proven address, and the last second it is valid. */
struct used {
	struct flow_key key;
	__u32 until;
	__u32 ended; /* the client has gone on after its SYN, another one is another connection */
	__u64 client;
};

/* A token bucket: the unix nanosecond at which it is full again (dispatcher/token_bucket.py). */
struct bucket {
	__u64 full;
};

/* Two of one tier: of bytes and of packets (policing.h). */
struct bucket_pair {
	__u64 full[2];
};

/* Packets of one tier over the limits of its policing. */
struct policed {
	__u64 dropped;
	__u64 marked;
};

#define WAYS 8

/* Buckets of one client or source each (dispatcher/bucket_table.py). A label is 0 where there is none, and says what
 * the holder's number is and what the bucket limits. */
struct bucket_set {
	__u64 numbers[WAYS];
	__u32 labels[WAYS];
	__u32 unused[WAYS];
	__u64 full[WAYS * 2]; /* when each of a bucket's at most two limits is full again */
};
