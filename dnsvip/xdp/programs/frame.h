/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Access to the bytes of a frame: the only bounds check on packet bytes, and the headers in their wire format
 * (RFC 8200, 791, 9293, 768, 4443, 792). All offsets count from the first byte of the frame. */
#pragma once
#include "types.h"

#define MAX_OFFSET 0x3fff

/* `size` bytes (a constant) at an offset of the frame; NULL where the frame ends before. */
static __always_inline void *bytes_at(struct xdp_md *ctx, __u32 offset, __u32 size)
{
	void *data, *end;

	if (offset > MAX_OFFSET)
		return NULL;
	opaque(offset);
	data = (void *)(long)ctx->data + (offset & MAX_OFFSET);
	end = (void *)(long)ctx->data_end;
	return data + size > end ? NULL : data;
}

static __always_inline __u32 frame_length(struct xdp_md *ctx)
{
	long length = (void *)(long)ctx->data_end - (void *)(long)ctx->data;

	opaque(length); /* else clang subtracts 32-bit halves of pointers, which the verifier forbids */
	return length;
}

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

/* The beginning of a datagram that is not empty. */
struct datagram {
	struct udp_head head;
	__u8 first;
} __attribute__((packed));

struct icmp_head {
	__u8 type;
	__u8 code;
	__be16 check;
	__be16 identity;
	__be16 sequence;
};
