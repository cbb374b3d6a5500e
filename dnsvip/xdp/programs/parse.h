/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Parses a frame down to its flow key. Verifies no checksum; knows neither clusters nor flows. */
#pragma once
#include "frame.h"
#include "packet.h"

#define MAX_EXTENSIONS 8
#define PARSED 0
#define NOT_IP (-1)
#define ECHO_REQUEST6 128
#define ECHO_REPLY6 129
#define ECHO_REQUEST4 8
#define ECHO_REPLY4 0

static __always_inline int is_extension(__u32 protocol)
{
	return protocol == IPPROTO_HOPOPTS || protocol == IPPROTO_ROUTING || protocol == IPPROTO_FRAGMENT ||
	       protocol == IPPROTO_DSTOPTS;
}

/* Walks a chain of at least one extension header. Returns PARSED or a reason (RFC 8200 section 4). */
__noinline int walk(struct xdp_md *ctx, struct chain *c)
{
	__u32 protocol, at, end, count;
	struct extension_head *head;

	if (!c)
		return REASON_MALFORMED_EXTENSIONS;
	protocol = c->protocol;
	at = c->at;
	end = c->end;
	c->piece = 0;
	c->fragmented = 0;
	for (count = 0; count <= MAX_EXTENSIONS; count++) {
		if (!is_extension(protocol))
			break;
		head = at + 8 > end ? NULL : bytes_at(ctx, at, sizeof(*head));
		if (!head)
			return REASON_MALFORMED_SHORT;
		if ((protocol == IPPROTO_HOPOPTS && count) || (protocol == IPPROTO_FRAGMENT && c->fragmented))
			return REASON_MALFORMED_EXTENSIONS;
		if (protocol == IPPROTO_ROUTING && bpf_ntohs(head->word) & 0xff)
			return REASON_MALFORMED_ROUTING;
		if (protocol == IPPROTO_FRAGMENT) {
			c->piece = bpf_ntohs(head->word);
			c->identity = head->identity;
			c->fragmented = 1;
			at += 8;
		} else {
			at += (head->size + 1) * 8;
		}
		protocol = head->next;
		if (at > end)
			return REASON_MALFORMED_SHORT;
		c->protocol = protocol;
		c->at = at;
		if (c->piece & 0xfff8)
			return PARSED;
	}
	return count <= MAX_EXTENSIONS ? PARSED : REASON_MALFORMED_EXTENSIONS;
}

static __always_inline int parse_tcp(struct xdp_md *ctx, struct packet *p)
{
	struct tcp_head *tcp = p->upper + sizeof(*tcp) > p->end ? NULL : bytes_at(ctx, p->upper, sizeof(*tcp));
	__u32 size;

	if (!tcp)
		return REASON_MALFORMED_SHORT;
	size = (tcp->offset >> 4) * 4;
	if ((size < 20 || size > p->end - p->upper) && !p->fragmented)
		return REASON_MALFORMED_LENGTH;
	p->flags = tcp->flags & 63;
	if (!p->flags || (p->flags & SYN && p->flags & (FIN | RST)))
		return REASON_MALFORMED_FLAGS;
	p->key.source_port = tcp->source_port;
	p->key.destination_port = tcp->destination_port;
	return PARSED;
}

static __always_inline int parse_udp(struct xdp_md *ctx, struct packet *p)
{
	struct udp_head *udp = p->upper + sizeof(*udp) > p->end ? NULL : bytes_at(ctx, p->upper, sizeof(*udp));
	__u32 size;

	if (!udp)
		return REASON_MALFORMED_SHORT;
	size = bpf_ntohs(udp->length);
	if (size < 8 || (size > p->end - p->upper && !p->fragmented))
		return REASON_MALFORMED_LENGTH;
	p->key.source_port = udp->source_port;
	p->key.destination_port = udp->destination_port;
	return PARSED;
}

/* Ports, or the identifier of an echo in their place. Returns 0 for other ICMP types. */
static __always_inline int echo_ports(struct flow_key *key, const struct icmp_head *icmp)
{
	__u8 request = key->version == 6 ? ECHO_REQUEST6 : ECHO_REQUEST4;
	__u8 reply = key->version == 6 ? ECHO_REPLY6 : ECHO_REPLY4;

	key->source_port = icmp->type == request ? icmp->identity : 0;
	key->destination_port = icmp->type == reply ? icmp->identity : 0;
	return icmp->type == request || icmp->type == reply;
}

static __always_inline int is_error(const struct packet *p, __u8 type)
{
	if (p->version == 6)
		return type < 128;
	return type == 3 || type == 4 || type == 11 || type == 12;
}

/* Parses the packet inside an error, truncated at `end`; returns REASON_MALFORMED_INNER where it identifies no flow.
 * A router sends errors to the source of the packet (RFC 4443 section 2.4), so the inner source is our destination. */
__noinline int parse_inner(struct xdp_md *ctx, struct packet *p)
{
	struct chain c = {};
	struct flow_key key = {};
	struct icmp_head *head;
	__u32 start;

	if (!p)
		return REASON_MALFORMED_INNER;
	start = p->upper + 8;
	if (start > p->end)
		return REASON_MALFORMED_INNER;
	key.version = p->version;
	if (p->version == 6) {
		struct ip6_head *ip = start + 40 > p->end ? NULL : bytes_at(ctx, start, sizeof(*ip));

		if (!ip || bpf_ntohl(ip->word) >> 28 != 6)
			return REASON_MALFORMED_INNER;
		c.protocol = ip->next;
		c.at = start + 40;
		c.end = p->end;
		__builtin_memcpy(key.source, ip->source, 32);
		if (is_extension(c.protocol) && (walk(ctx, &c) != PARSED || c.piece & 0xfff8))
			return REASON_MALFORMED_INNER;
	} else {
		struct ip4_head *ip = start + 20 > p->end ? NULL : bytes_at(ctx, start, sizeof(*ip));

		if (!ip || ip->version_length >> 4 != 4 || bpf_ntohs(ip->piece) & 0x1fff)
			return REASON_MALFORMED_INNER;
		c.protocol = ip->protocol;
		c.at = start + (ip->version_length & 15) * 4;
		key.source[1] = (__u64)ip->source << 32;
		key.destination[1] = (__u64)ip->destination << 32;
		if (c.at < start + 20)
			return REASON_MALFORMED_INNER;
	}
	key.protocol = c.protocol;
	head = c.at + 8 > p->end ? NULL : bytes_at(ctx, c.at, sizeof(*head));
	if (!head)
		return REASON_MALFORMED_INNER;
	if (c.protocol == IPPROTO_TCP || c.protocol == IPPROTO_UDP) {
		struct udp_head *ports = (void *)head;

		key.source_port = ports->source_port;
		key.destination_port = ports->destination_port;
	} else if (c.protocol != (p->version == 6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP) || !echo_ports(&key, head)) {
		return REASON_MALFORMED_INNER;
	}
	if (key.source[0] != p->key.destination[0] || key.source[1] != p->key.destination[1])
		return REASON_MALFORMED_INNER;
	p->inner = c.at;
	p->martian = is_martian(&p->key);
	p->shape = SHAPE_ERROR;
	reverse_key(&p->key, &key);
	return PARSED;
}

static __always_inline int parse_icmp(struct xdp_md *ctx, struct packet *p)
{
	struct icmp_head *icmp = p->upper + sizeof(*icmp) > p->end ? NULL : bytes_at(ctx, p->upper, sizeof(*icmp));

	if (!icmp)
		return REASON_MALFORMED_SHORT;
	if (echo_ports(&p->key, icmp))
		return PARSED;
	if (is_error(p, icmp->type))
		return parse_inner(ctx, p);
	p->shape = SHAPE_OTHER;
	return PARSED;
}

/* Whether a packet is not the first of its flow: a TCP segment without SYN, or a datagram that begins like the short
 * header of QUIC, which comes after the handshake (RFC 9000 section 17.3.1). */
static __always_inline int is_running(struct xdp_md *ctx, const struct packet *p)
{
	struct datagram *udp;

	if (p->key.protocol == IPPROTO_TCP)
		return !(p->flags & SYN);
	if (p->key.protocol != IPPROTO_UDP || p->upper + sizeof(*udp) > p->end)
		return 0;
	udp = bytes_at(ctx, p->upper, sizeof(*udp));
	return udp && (udp->first & 0xc0) == 0x40;
}

/* The flow label (RFC 6437); 0 is none. */
static __always_inline __u32 flow_label(struct xdp_md *ctx, const struct packet *p)
{
	__be32 *word = p->version == 6 ? bytes_at(ctx, p->network, sizeof(*word)) : NULL;

	return word ? bpf_ntohl(*word) & 0xfffff : 0;
}

static __always_inline int parse_upper(struct xdp_md *ctx, struct packet *p, int later)
{
	if (later) {
		p->shape = SHAPE_FRAGMENT;
		return PARSED;
	}
	if (p->key.protocol == IPPROTO_TCP)
		return parse_tcp(ctx, p);
	if (p->key.protocol == IPPROTO_UDP)
		return parse_udp(ctx, p);
	if (p->key.protocol == (p->version == 6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP))
		return parse_icmp(ctx, p);
	p->shape = SHAPE_OTHER;
	return PARSED;
}

static __always_inline int parse_chain(struct xdp_md *ctx, struct packet *p)
{
	struct chain c = {.end = p->end, .at = p->upper, .protocol = p->key.protocol};
	int fault = walk(ctx, &c);

	if (fault)
		return fault;
	p->key.protocol = c.protocol;
	p->upper = c.at;
	if (c.fragmented && c.piece & 0xfff9) { /* neither offset nor M: a whole packet (RFC 6946) */
		p->fragmented = 1;
		__builtin_memcpy(p->fragment.source, p->key.source, 32);
		p->fragment.identity = c.identity;
		p->fragment.protocol = 0;
		p->fragment.version = 6;
		p->fragment.zero = 0;
	}
	return parse_upper(ctx, p, c.piece & 0xfff8);
}

static __always_inline int parse6(struct xdp_md *ctx, struct packet *p, __u32 length)
{
	struct ip6_head *ip = bytes_at(ctx, p->network, sizeof(*ip));
	__u32 size;

	if (!ip)
		return REASON_MALFORMED_SHORT;
	__builtin_memcpy(p->key.source, ip->source, 32);
	p->readable = 1;
	size = 40 + bpf_ntohs(ip->length);
	if (size > length)
		return REASON_MALFORMED_LENGTH;
	p->end = p->network + size;
	p->upper = p->network + 40;
	p->key.protocol = ip->next;
	return is_extension(ip->next) ? parse_chain(ctx, p) : parse_upper(ctx, p, 0);
}

static __always_inline int parse4(struct xdp_md *ctx, struct packet *p, __u32 length)
{
	struct ip4_head *ip = bytes_at(ctx, p->network, sizeof(*ip));
	__u32 start, size, piece;

	if (!ip)
		return REASON_MALFORMED_SHORT;
	p->key.source[0] = p->key.destination[0] = 0;
	p->key.source[1] = (__u64)ip->source << 32;
	p->key.destination[1] = (__u64)ip->destination << 32;
	p->readable = 1;
	start = (ip->version_length & 15) * 4;
	size = bpf_ntohs(ip->length);
	if (start < 20 || start > size || size > length)
		return REASON_MALFORMED_LENGTH;
	p->end = p->network + size;
	p->upper = p->network + start;
	p->key.protocol = ip->protocol;
	piece = bpf_ntohs(ip->piece);
	if (piece & 0x3fff) {
		p->fragmented = 1;
		__builtin_memcpy(p->fragment.source, p->key.source, 32);
		p->fragment.identity = bpf_htonl(bpf_ntohs(ip->identity));
		p->fragment.protocol = ip->protocol;
		p->fragment.version = 4;
		p->fragment.zero = 0;
	}
	return parse_upper(ctx, p, piece & 0x1fff);
}

/* Skips Ethernet and at most two VLAN tags (IEEE 802.1Q, 802.1ad); returns the Ethernet type, 0 at the end. */
static __always_inline __u32 parse_ethernet(struct xdp_md *ctx, struct packet *p)
{
	struct ethhdr *ethernet = bytes_at(ctx, 0, sizeof(*ethernet));
	__u32 type, tags;

	p->tagged = 0;
	p->readable = 0;
	p->network = sizeof(*ethernet);
	if (!ethernet)
		return 0;
	type = bpf_ntohs(ethernet->h_proto);
	for (tags = 0; tags < 2; tags++) {
		__be16 *tag;

		if (type != ETH_P_8021Q && type != ETH_P_8021AD)
			break;
		tag = bytes_at(ctx, p->network, 4);
		if (!tag)
			return 0;
		type = bpf_ntohs(tag[1]);
		p->network += 4;
		p->tagged += 4;
	}
	return type;
}

/* PARSED, NOT_IP, or the reason why a frame holds no packet that could be forwarded. */
static __always_inline int parse(struct xdp_md *ctx, struct packet *p)
{
	__u32 type = parse_ethernet(ctx, p), length;
	__u8 *first;

	if (type != ETH_P_IPV6 && type != ETH_P_IP)
		return NOT_IP;
	length = frame_length(ctx) - p->network;
	first = bytes_at(ctx, p->network, 20);
	if (!first)
		return REASON_MALFORMED_SHORT;
	p->version = *first >> 4;
	p->shape = SHAPE_FLOW;
	p->flags = 0;
	p->fragmented = 0;
	p->key.source_port = p->key.destination_port = 0;
	p->key.version = p->version;
	p->key.zero = 0;
	if (p->version == 6 && type == ETH_P_IPV6)
		return parse6(ctx, p, length);
	if (p->version == 4 && type == ETH_P_IP)
		return parse4(ctx, p, length);
	return REASON_MALFORMED_VERSION;
}
