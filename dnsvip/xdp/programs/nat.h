/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Network address translation, both ways: the port of a flow at its server (dispatcher/flows/nat.py), and
 * the bytes (dispatcher/egress/rewrite.py). */
#pragma once
#include "checksum.h"
#include "flow.h"
#include "parse.h"

#define FIRST_PORT 49152
#define PORTS 16384
#define TRIES 64

/* Whether a flow may have a reply key: it is free, or its own already. */
static __always_inline int claim_reply(struct flow_key *reply, struct flow_key *key)
{
	struct flow_key *holder = bpf_map_lookup_elem(&replies, reply);

	if (holder)
		return is_same(holder, key);
	return !bpf_map_update_elem(&replies, reply, key, BPF_NOEXIST);
}

/* Removes the anonymous flow that has a reply key, while it is young: its source may be forged, and it yields to an
 * authentic one. (Part of what calls it, as no more than eight calls may be in each other.) */
static __always_inline int displace(struct flow_key *reply, __u32 now)
{
	struct flow_key *holder = reply ? bpf_map_lookup_elem(&replies, reply) : NULL;
	struct flow *flow = holder ? find_flow(holder) : NULL;

	if (!flow || !is_anonymous(flow) || (__s32)(now - flow->opened) >= YOUNG_SECONDS)
		return 0;
	return forget(flow);
}

/* Allocates a port for the flow of work.packet at its server. Returns 0, or a negative number where none is free. */
__noinline int open_translation(void)
{
	struct site *site = current_site();
	struct work *w = work();
	struct flow_key reply;
	struct flow *flow;
	__u32 number;
	__u64 hash;
	int n;

	if (!site || !w)
		return -1;
	flow = find_flow(&w->packet.key);
	if (!flow)
		return -1;
	number = flow->owner >> 8;
	if (number >= MAX_SERVERS)
		return -1;
	hash = key_hash(&w->packet.key);
	reply_key(&reply, &w->packet.key, site->servers[number].address, w->packet.key.source_port);
	if (!(flow->anonymous & (ANONYMOUS | TAKEN_OVER))) /* taken over: it would tell whether its proof is right */
		displace(&reply, w->seconds);
	for (n = 0; n < TRIES; n++) {
		if (n)
			reply.destination_port = bpf_htons(FIRST_PORT + (hash + n * 7919) % PORTS);
		if (claim_reply(&reply, &w->packet.key)) {
			flow->port = reply.destination_port;
			flow->translated = 1;
			return 0;
		}
	}
	return -1;
}

/* The offset of the checksum in an upper layer; 0 where it has none that we know. */
static __always_inline __u32 checksum_offset(__u8 protocol)
{
	if (protocol == IPPROTO_TCP)
		return 16;
	if (protocol == IPPROTO_UDP)
		return 6;
	return protocol == IPPROTO_ICMPV6 || protocol == IPPROTO_ICMP ? 2 : 0;
}

/* Updates an upper layer's checksum; returns old minus new of that field. A truncated checksum stays as it is, and so
 * does the zero of UDP without one. */
static __always_inline __s32 settle(struct xdp_md *ctx, __u8 protocol, __u32 upper, __u32 end, __s32 difference)
{
	__u32 at = upper + checksum_offset(protocol), new;
	__be16 *field = at == upper || at + 2 > end ? NULL : bytes_at(ctx, at, 2);
	__u32 old;

	if (!field)
		return 0;
	old = bpf_ntohs(*field);
	if (protocol == IPPROTO_UDP && !old)
		return 0;
	new = adjusted(old, difference);
	if (protocol == IPPROTO_UDP && !new)
		new = 65535; /* RFC 768: zero means no checksum */
	*field = bpf_htons(new);
	return (__s32)old - (__s32)new;
}

static __always_inline __s32 put_address_at(struct xdp_md *ctx, __u32 offset, const __be64 *address)
{
	__be64 *at = bytes_at(ctx, offset, 16);

	return at ? put_address(at, address) : 0;
}

static __always_inline __s32 put_word_at(struct xdp_md *ctx, __u32 offset, __be16 word)
{
	__be16 *at = bytes_at(ctx, offset, 2);

	return at ? put_word(at, word) : 0;
}

/* Writes the client's port into an upper layer, at `offset`: source (0) or destination (2). For an echo it is the
 * identifier, and only written where the client is the requester. */
static __always_inline __s32 put_port(struct xdp_md *ctx, __u8 protocol, __u32 upper, __u32 offset, __be16 port)
{
	struct icmp_head *icmp;
	__u8 asked = protocol == IPPROTO_ICMP ? (offset ? ECHO_REPLY4 : ECHO_REQUEST4)
					      : (offset ? ECHO_REPLY6 : ECHO_REQUEST6);

	if (protocol == IPPROTO_TCP || protocol == IPPROTO_UDP)
		return put_word_at(ctx, upper + offset, port);
	icmp = bytes_at(ctx, upper, sizeof(*icmp));
	if (!icmp || icmp->type != asked)
		return 0;
	return put_word_at(ctx, upper + 4, port);
}

/* Translates an ICMPv6 error and the packet inside it (RFC 5508 section 4.2, for IPv6). */
static __always_inline void translate_error(struct xdp_md *ctx, struct packet *p, __u32 outer, __u32 inner,
					    const __be64 *address, __u32 port_at, __be16 port)
{
	__u8 protocol = p->key.protocol;
	__s32 difference, inside;

	difference = put_address_at(ctx, p->network + outer, address);
	inside = put_address_at(ctx, p->upper + 8 + inner, address);
	inside += put_port(ctx, protocol, p->inner, port_at, port);
	difference += inside + settle(ctx, protocol, p->inner, p->end, inside);
	settle(ctx, IPPROTO_ICMPV6, p->upper, p->end, difference);
}

/* Writes an address into the IPv4 header at `head`, with its checksum. Returns old minus new of the address; `whole` of
 * the header. */
static __always_inline __s32 put_address4(struct xdp_md *ctx, __u32 head, __u32 offset, __be32 address, __s32 *whole)
{
	struct ip4_head *ip = bytes_at(ctx, head, sizeof(*ip));
	__be32 *at = bytes_at(ctx, head + offset, sizeof(*at));
	__u32 old, check;
	__s32 difference;

	*whole = 0;
	if (!ip || !at)
		return 0;
	old = bpf_ntohl(*at);
	*at = address;
	address = bpf_ntohl(address);
	difference = (__s32)((old >> 16) + (old & 0xffff)) - (__s32)((address >> 16) + (address & 0xffff));
	check = bpf_ntohs(ip->check);
	ip->check = bpf_htons(adjusted(check, difference));
	*whole = difference + (__s32)check - (__s32)bpf_ntohs(ip->check);
	return difference;
}

/* The part of an address's difference that an upper layer's checksum covers: ICMP for IPv4 has no pseudo-header. */
static __always_inline __s32 summed(__u8 protocol, __s32 difference)
{
	return protocol == IPPROTO_ICMP ? 0 : difference;
}

/* As `translate`, of an IPv4 packet. Always 0. */
__noinline int translate4(struct xdp_md *ctx, __be32 address, __u32 reply)
{
	__u32 outer = reply ? 12 : 16, inner = reply ? 16 : 12;
	struct work *w = work();
	struct packet *p;
	__s32 difference, whole, ports;
	__u8 protocol;

	if (!w)
		return 0;
	p = &w->packet;
	protocol = p->key.protocol;
	difference = summed(protocol, put_address4(ctx, p->network, outer, address, &whole));
	if (p->shape == SHAPE_ERROR) {
		difference = summed(protocol, put_address4(ctx, p->upper + 8, inner, address, &whole));
		ports = put_port(ctx, protocol, p->inner, reply ? 0 : 2, w->verdict.port);
		whole += ports + settle(ctx, protocol, p->inner, p->end, difference + ports);
		settle(ctx, IPPROTO_ICMP, p->upper, p->end, whole);
	} else if (p->shape == SHAPE_FLOW) { /* the checksum is in the first fragment and covers the others too */
		difference += put_port(ctx, protocol, p->upper, reply ? 2 : 0, w->verdict.port);
		settle(ctx, protocol, p->upper, frame_length(ctx), difference);
	}
	return 0;
}

/* Rewrites the packet as work.verdict says: to the server, or as a reply to the client. Always 0. */
__noinline int translate(struct xdp_md *ctx)
{
	struct site *site = current_site();
	struct work *w = work();
	struct packet *p;
	__be64 address[2];
	__u32 outer, inner, number, length;
	__be16 port;
	__s32 difference;
	int reply;

	if (!site || !w)
		return 0;
	p = &w->packet;
	reply = w->verdict.reply;
	number = w->verdict.server;
	port = w->verdict.port;
	if (reply) {
		address[0] = w->verdict.vip[0];
		address[1] = w->verdict.vip[1];
	} else if (number < MAX_SERVERS) {
		address[0] = site->servers[number].address[0];
		address[1] = site->servers[number].address[1];
	} else {
		return 0;
	}
	if (p->version == 4)
		return translate4(ctx, address[1] >> 32, reply);
	outer = reply ? 8 : 24;
	inner = reply ? 24 : 8;
	if (p->shape == SHAPE_ERROR) {
		translate_error(ctx, p, outer, inner, address, reply ? 0 : 2, port);
		return 0;
	}
	difference = put_address_at(ctx, p->network + outer, address);
	if (p->shape != SHAPE_FLOW)
		return 0; /* the checksum is in the first fragment and covers this one too */
	length = frame_length(ctx);
	difference += put_port(ctx, p->key.protocol, p->upper, reply ? 2 : 0, port);
	settle(ctx, p->key.protocol, p->upper, length, difference);
	return 0;
}
