/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* A parsed packet, as in dnsvip/dispatcher/packet.py: its flow's key, its shape, and the offsets of its parts. */
#pragma once
#include "reason.h"
#include "types.h"

#define FIN 1
#define SYN 2
#define RST 4
#define ACK 16

/* Network byte order throughout. An IPv4 address is in the last four of sixteen bytes. */
struct flow_key {
	__be64 source[2];
	__be64 destination[2];
	__be16 source_port; /* the identifier of an echo request */
	__be16 destination_port;
	__u8 protocol;
	__u8 version;
	__u16 zero;
};

/* Identifies the packet of a fragment: RFC 8200 section 4.5; RFC 791, which adds the protocol. */
struct fragment_key {
	__be64 source[2];
	__be64 destination[2];
	__be32 identity;
	__u8 protocol; /* IPv6: 0 */
	__u8 version;
	__u16 zero;
};

enum shape { SHAPE_FLOW, SHAPE_ERROR, SHAPE_FRAGMENT, SHAPE_OTHER };

struct packet {
	struct flow_key key;
	struct fragment_key fragment;
	__u32 network; /* frame offset of the IP header */
	__u32 upper;   /* frame offset of the upper layer */
	__u32 end;     /* frame offset behind the packet by its own length; the frame may be longer */
	__u32 inner;   /* in an error: frame offset of the upper layer of the packet inside */
	__u8 flags;
	__u8 shape;
	__u8 version;
	__u8 fragmented; /* `fragment` is set */
	__u8 upper_protocol;
	__u8 tagged; /* bytes of VLAN tags */
	__u8 readable; /* its addresses could be read */
	__u8 martian;  /* of an error: its own source is martian */
};

/* A walk over IPv6 extension headers, starting at frame offset `at`. */
struct chain {
	__u32 end;
	__u32 at;
	__u32 protocol;
	__u32 piece; /* the fragment header's offset and flags */
	__be32 identity;
	__u32 fragmented; /* there was a fragment header */
};

static __always_inline struct wide wide_of(const __be64 *words)
{
	struct wide n = {bpf_be64_to_cpu(words[0]), bpf_be64_to_cpu(words[1])};

	return n;
}

/* Whether a packet asks for a connection: a SYN without ACK. */
static __always_inline int opens(const struct packet *p)
{
	return (p->flags & (SYN | ACK)) == SYN;
}

/* Whether a packet cannot come from a client: its source is no single host, or its destination (packet.py). */
static __always_inline int is_martian(const struct flow_key *key)
{
	struct wide source = wide_of(key->source);
	__u32 first = source.lo >> 24;

	if (key->source[1] == key->destination[1] && key->source[0] == key->destination[0])
		return 1;
	if (key->version == 6)
		return source.hi ? source.hi >> 56 == 0xff || source.hi >> 54 == 0xfe80 >> 6
				 : source.lo <= 1 || source.lo >> 32 == 0xffff;
	return !first || first == 127 || first >= 224;
}

static __always_inline void reverse_key(struct flow_key *to, const struct flow_key *from)
{
	to->source[0] = from->destination[0];
	to->source[1] = from->destination[1];
	to->destination[0] = from->source[0];
	to->destination[1] = from->source[1];
	to->source_port = from->destination_port;
	to->destination_port = from->source_port;
	to->protocol = from->protocol;
	to->version = from->version;
	to->zero = 0;
}
