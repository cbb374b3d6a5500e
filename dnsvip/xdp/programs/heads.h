/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Headers as they stand in packets, as far as they are read (RFC 8200, 791, 9293, 768, 4443, 792). */
#pragma once
#include "types.h"

struct ip6_head {
	__be32 word;
	__be16 length;
	__u8 next;
	__u8 hops;
	__be64 source[2];
	__be64 destination[2];
};

struct ip4_head {
	__u8 version_length;
	__u8 tos;
	__be16 length;
	__be16 identity;
	__be16 piece;
	__u8 ttl;
	__u8 protocol;
	__be16 check;
	__be32 source;
	__be32 destination;
};

struct extension_head {
	__u8 next;
	__u8 size;
	__be16 word;
	__be32 identity;
};

struct tcp_head {
	__be16 source_port;
	__be16 destination_port;
	__be32 sequence[2];
	__u8 offset;
	__u8 flags;
	__be16 window;
	__be16 check;
	__be16 urgent;
};

struct udp_head {
	__be16 source_port;
	__be16 destination_port;
	__be16 length;
	__be16 check;
};

struct icmp_head {
	__u8 type;
	__u8 code;
	__be16 check;
	__be16 identity;
	__be16 sequence;
};
