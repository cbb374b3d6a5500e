/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Makes the frame of a question that of its answer: message, headers and checksums, and counts it. */
#pragma once
#include "dns_limit.h"
#include "dns_question.h"
#include "dns_samples.h"
#include "dns_signatures.h"

#define HOPS 64

/* The UDP checksum that makes all of it add up; RFC 768: never 0. */
static __always_inline __u16 checksum_of(__u64 sum)
{
	__u16 check = ~fold(sum);

	return check ? check : 0xffff;
}

/* Turns the headers of a question into those of an answer, whose message has this sum and length. */
static __always_inline int turn(struct xdp_md *ctx, struct dns_work *w, __u64 sum, __u32 length)
{
	struct packet *p = &w->packet;
	struct ethhdr *ethernet = bytes_at(ctx, 0, sizeof(*ethernet));
	struct udp_head *udp = bytes_at(ctx, p->upper, sizeof(*udp));
	__u8 mac[ETH_ALEN];
	__be16 port;

	if (!ethernet || !udp)
		return 0;
	__builtin_memcpy(mac, ethernet->h_dest, ETH_ALEN);
	__builtin_memcpy(ethernet->h_dest, ethernet->h_source, ETH_ALEN);
	__builtin_memcpy(ethernet->h_source, mac, ETH_ALEN);
	port = udp->source_port;
	udp->source_port = udp->destination_port;
	udp->destination_port = port;
	length += sizeof(*udp);
	udp->length = bpf_htons(length);
	sum += (__u64)udp->source_port + udp->destination_port + 2 * (__u64)udp->length + bpf_htons(IPPROTO_UDP);
	sum = fold(sum) + fold(sum_of(p->key.source[0]) + sum_of(p->key.source[1])) +
	      fold(sum_of(p->key.destination[0]) + sum_of(p->key.destination[1]));
	udp->check = checksum_of(sum);
	if (p->key.version == 6) {
		struct ip6_head *ip = bytes_at(ctx, p->network, sizeof(*ip));

		if (!ip)
			return 0;
		ip->word = bpf_htonl(6U << 28);
		ip->length = bpf_htons(length);
		ip->hops = HOPS;
		__builtin_memcpy(ip->source, p->key.destination, 16);
		__builtin_memcpy(ip->destination, p->key.source, 16);
	} else {
		struct ip4_head *ip = bytes_at(ctx, p->network, sizeof(*ip));
		__u16 *words = (void *)ip;

		if (!ip)
			return 0;
		ip->tos = 0;
		ip->length = bpf_htons(length + sizeof(*ip));
		ip->piece = 0;
		ip->ttl = HOPS;
		ip->source = p->key.destination[1] >> 32;
		ip->destination = p->key.source[1] >> 32;
		ip->check = 0;
		sum = 0;
#pragma clang loop unroll(full)
		for (int n = 0; n < 10; n++)
			sum += words[n];
		ip->check = ~fold(sum);
	}
	return 1;
}

/* Writes the header of the answer; returns the sum of its words, 0 where the frame is too short. */
static __always_inline __u64 write_head(struct xdp_md *ctx, const struct asking *a, const struct template *t)
{
	struct dns_head *head = bytes_at(ctx, a->message, sizeof(*head));
	__be16 edns = a->opt ? bpf_htons(1) : 0;
	__be16 flags;

	if (!head)
		return 0;
	flags = t->flags | (head->flags[0] & 1 ? bpf_htons(0x100) : 0) | (a->is_slipped ? bpf_htons(0x200) : 0);
	__builtin_memcpy(head->flags, &flags, 2);
	head->counts[1] = a->is_slipped ? 0 : t->counts[0];
	head->counts[2] = a->is_slipped ? 0 : t->counts[1];
	head->counts[3] = (a->is_slipped ? 0 : t->counts[2]) + edns;
	return (__u64)head->id + flags + head->counts[0] + head->counts[1] + head->counts[2] + head->counts[3];
}

static __always_inline int write_address(struct xdp_md *ctx, __u32 at, const __be64 *words, int is_short)
{
	__u8 *to = is_short ? bytes_at(ctx, at, 4) : bytes_at(ctx, at, 16);

	if (!to)
		return 0;
	if (is_short)
		__builtin_memcpy(to, words, 4);
	else
		__builtin_memcpy(to, words, 16);
	return 1;
}

/* Writes what follows the question into the frame; returns its sum, negative where it could not. */
static __always_inline __s64 write_body(struct xdp_md *ctx, struct dns_work *w, const struct asking *a, struct template *t)
{
	__u32 body = t->body, start = a->message + a->end, n, at;
	__u64 sum = sum_at(a->end, t->sum);

	opaque(body);
	if (!body || body > BODY_BYTES || bpf_xdp_store_bytes(ctx, start, t->data, body))
		return -1;
#pragma clang loop unroll(full)
	for (n = 0; n < MAX_HOLES; n++) {
		__be64 *words = w->address[n];

		if (n >= t->holes)
			break;
		at = t->hole[n].at;
		if (!write_address(ctx, start + at, words, t->hole[n].length == 4))
			return -1;
		sum += sum_at(a->end + at, sum_of(words[0]) + sum_of(words[1]));
	}
	if (t->signatures) {
		__s64 signatures = write_signatures(ctx, w, t, start, a->end);

		if (signatures < 0)
			return -1;
		sum += signatures;
	}
	return sum;
}

/* Writes the OPT record behind so many bytes of body; as above. */
static __always_inline __s64 write_opt(struct xdp_md *ctx, struct dns_work *w, const struct dns_config *c,
				       const struct asking *a, __u32 body, __u32 scope)
{
	__u32 end = a->end, length = a->opt, at = a->cookie, n;
	struct opt *opt;
	__u64 sum = 0;

	opaque(end);
	opaque(at);
	opaque(length);
	if (end > QUESTION + NAME_BYTES + 4 || at > QUESTION + NAME_BYTES + 4 + OPT_FIXED + ECS_FIXED + 16 ||
	    length < OPT_FIXED || length > OPT_BYTES)
		return -1;
	opt = (void *)(w->asked.wire + end);
	opt->size = bpf_htons(EDNS_SIZE);
	opt->length = bpf_htons(a->opt - OPT_FIXED);
	if (w->ecs.family)
		((struct ecs *)(opt + 1))->scope = scope;
	if (at)
		make_cookie(w, c, (void *)(w->asked.wire + at));
	if (bpf_xdp_store_bytes(ctx, a->message + a->end + body, opt, length))
		return -1;
#pragma clang loop unroll(disable)
	for (n = 0; n < OPT_BYTES / 8; n++) {
		if (n * 8 >= length)
			break;
		sum += sum_of(*(__u64 *)((__u8 *)opt + n * 8)); /* what follows the record is zero */
	}
	return sum_at(a->end + body, sum);
}

/* Makes the frame so long: at its end, or where there is no room (veth) at its beginning, with everything up to the end
 * of the question moved there. Returns 0 where neither is possible; the frame is then as it was. */
static __always_inline int resize(struct xdp_md *ctx, struct dns_work *w, const struct asking *a, __u32 length)
{
	__u32 own = frame_length(ctx), more = length - own, head = a->message + a->end;

	if (!bpf_xdp_adjust_tail(ctx, (int)(length - own)))
		return 1;
	opaque(head);
	if (length <= own || head < sizeof(struct ethhdr) || head > HEAD_BYTES ||
	    bpf_xdp_load_bytes(ctx, 0, w->head, head) || bpf_xdp_adjust_head(ctx, -(int)more))
		return 0;
	return !bpf_xdp_store_bytes(ctx, 0, w->head, head);
}

static __always_inline void count_answer(__u32 cell, __u32 zone)
{
	__u64 *number = bpf_map_lookup_elem(&cells, &cell);

	if (number)
		++*number;
	number = bpf_map_lookup_elem(&dns_zones, &zone);
	if (number)
		++*number;
}

/* Sends the answer of a template: whole, or what the rate limit leaves of it. */
static __always_inline int send(struct xdp_md *ctx, struct dns_work *w, const struct dns_config *c, struct asking *a,
				struct template *t, __u32 scope, __u32 cell)
{
	__u32 length = a->end + t->body + a->opt, body = t->body, zone = t->zone;
	enum limit_verdict verdict = LIMIT_SEND;
	struct dns_sampling *picked = NULL;
	__s64 sum = 0, opt = 0, head;

	if (c->is_sampled) {
		picked = pick(ctx, w, c, a->message, cell); /* the question, before the answer takes its place */
		if (picked)
			picked->sample.is_proven = a->is_proven;
	}
	if (!resize(ctx, w, a, a->message + length))
		return DNS_NOT_SENT;
	if (c->cost && !a->is_proven)
		verdict = spend(w, c, t->kind);
	if (verdict != LIMIT_DROP) {
		a->is_slipped = verdict == LIMIT_SLIP;
		if (a->is_slipped) {
			if (bpf_xdp_adjust_tail(ctx, -(int)body))
				return DNS_REASONS;
			length -= body;
			body = 0;
		} else {
			sum = write_body(ctx, w, a, t);
		}
		if (a->opt)
			opt = write_opt(ctx, w, c, a, body, scope);
		head = write_head(ctx, a, t);
		if (sum < 0 || opt < 0 || !head || !turn(ctx, w, a->sum + sum + opt + head, length))
			return DNS_REASONS;
	} else {
		length = 0;
	}
	if (*(volatile __u64 *)&t->owner != a->hash)
		return DNS_REASONS;
	count_answer(cell, zone);
	if (picked)
		send_sample(ctx, picked, a->message, length);
	return verdict == LIMIT_SEND ? DNS_ANSWERED : verdict == LIMIT_SLIP ? DNS_SLIPPED : DNS_DROPPED;
}
