/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What is remembered between packets. Times are whole unix seconds unless a name says otherwise. */
#pragma once
#include "packet.h"

#define NEW_SECONDS 30
#define CLOSING_SECONDS 60
#define DATAGRAM_SECONDS 180
#define FRAGMENT_SECONDS 60
#define SESSION_SECONDS 3600

struct flow {
	__u64 hash;   /* what its server was chosen by */
	__u64 client; /* 0: anonymous */
	__u32 owner;  /* server number << 8 | DSCP, as Tables.owner_of */
	__u32 seen;
	__u32 life;  /* idle seconds until it is forgotten, once established */
	__u32 place; /* of a fresh flow: where in map `fresh` */
	__be16 port; /* the client's at the server, under nat */
	__u8 closing;
	__u8 translated; /* it has an entry in `replies` */
	__u8 fresh;      /* not established */
	__u8 unused[3];
};

/* How far the two kinds of flow have come. */
struct lanes {
	__u64 cursor;      /* fresh flows ever recorded */
	__u64 established; /* flows that are */
	__u32 filter;      /* the half of map `filters` that is read */
	__u32 unused;
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
