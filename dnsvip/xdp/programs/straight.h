/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What the straight ways share (established.h, opening.h): the head of a usual frame, and sending it. What is decided
 * on a straight way, `decide` (dispatch.bpf.c) decides in the same way; a packet that is not usual is LEFT to it,
 * unchanged. They are code of their own because a packet pays for each cache line, call and branch that it meets cold. */
#pragma once
#include "forward.h"
#include "policing.h"

#define LEFT (-1)
#define NO_HEAD (1U << 31) /* in place of TCP flags */

/* Of a TCP segment or a datagram of IPv6, without tags and extension headers. Two bytes before the frame are part of it, as
 * clang reads what is not aligned in the structure byte by byte. */
struct straight {
	__u16 before;
	struct ethhdr link;
	struct ip6_head ip;
	union {
		struct tcp_head tcp;
		struct udp_head udp;
	};
};

static __always_inline struct straight *straight_bytes(struct xdp_md *ctx)
{
	struct straight *head = (void *)(long)ctx->data - offsetof(struct straight, link);

	return (void *)(&head->tcp + 1) > (void *)(long)ctx->data_end ? NULL : head;
}

/* Whether one number is less than another, both below 2^31: without a branch. */
static __always_inline __u32 is_less(__u32 a, __u32 b)
{
	return (a - b) >> 31;
}

/* The head of a frame that may go a straight way, with its TCP flags (0: a datagram), or NULL. Checks all that `parse`
 * does. */
static __always_inline struct straight *straight_head(struct xdp_md *ctx, __u32 *flags)
{
	struct straight *head = straight_bytes(ctx);
	__u32 length, size;

	if (!head)
		return NULL;
	length = bpf_ntohs(head->ip.length);
	/* Differences in place of comparisons, of each of which clang makes a branch. */
	if (unlikely((head->link.h_proto ^ bpf_htons(ETH_P_IPV6)) |
		     ((head->ip.word & bpf_htonl(0xf0000000)) ^ bpf_htonl(6u << 28)) | is_less(head->ip.hops, 2) |
		     is_less(frame_length(ctx), length + sizeof(head->link) + sizeof(head->ip))))
		return NULL;
	*flags = 0;
	if (head->ip.next == IPPROTO_UDP) {
		size = bpf_ntohs(head->udp.length);
		return size >= sizeof(head->udp) && size <= length ? head : NULL;
	}
	size = (head->tcp.offset >> 4) * 4;
	*flags = head->tcp.flags & 63;
	if (unlikely((head->ip.next ^ IPPROTO_TCP) | is_less(size, sizeof(head->tcp)) | is_less(length, size) |
		     is_less(*flags, 1)))
		return NULL;
	return head;
}

static __always_inline void straight_key(struct flow_key *key, const struct straight *head)
{
	__u64 word = *(const __u32 *)&head->tcp | (__u64)head->ip.next << 32 | 6ULL << 40;

	key->source[0] = head->ip.source[0];
	key->source[1] = head->ip.source[1];
	key->destination[0] = head->ip.destination[0];
	key->destination[1] = head->ip.destination[1];
	/* From `source_port` on (little-endian), as what is written in parts and read as a whole is waited for. */
	__builtin_memcpy(__builtin_assume_aligned(&key->source_port, 8), &word, 8);
}

static __always_inline __u32 straight_size(const struct straight *head)
{
	return bpf_ntohs(head->ip.length) + sizeof(head->ip);
}

static __always_inline void count_straight(struct xdp_md *ctx, __u32 action, __u32 reason)
{
	__u32 index = reason + REASONS * action;
	struct counter *counter = bpf_map_lookup_elem(&counters, &index);

	if (counter) {
		counter->packets++;
		counter->bytes += frame_length(ctx);
	}
}

/* The two words of the bucket that a packet of a policed tier takes from; NULL where its client or source has none of its
 * own (yet). */
static __always_inline __u64 *known_bucket(const struct site *site, const struct flow_key *key, __u64 client, __u32 number)
{
	__u32 per = site->tiers[number &= MAX_TIERS - 1].police_per;
	struct bucket_pair *shared;
	struct bucket_set *set;
	struct holder holder;
	struct lanes *l;

	if (per == PER_TIER) {
		shared = bpf_map_lookup_elem(&policing_buckets, &number);
		return shared ? shared->full : NULL;
	}
	l = lanes_now();
	if (!l)
		return NULL;
	set = set_of(&holder, l, key, client, per, number | LABEL_POLICING);
	return set ? bucket_of(set, &holder) : NULL;
}

/* Forgets the packet before. */
static __always_inline void clear(struct work *w, const struct site *site)
{
	w->client = 0;
	w->recorded = w->counted = 0;
	w->verdict.server = NONE;
	w->verdict.reply = 0;
	w->verdict.held = 0;
	w->verdict.mode = MODE_DIRECT;
	w->shares = site->shares;
	if (!w->shares)
		w->step = 0;
}

static __always_inline int goes_to(__u32 cluster, const struct site *site, const struct flow_key *key)
{
	return cluster < MAX_CLUSTERS && has_prefix_of(&site->clusters[cluster], key);
}

/* Finds the cluster that the packet with a head goes to, another one than that of the packet before; returns 0 then, and
 * else the XDP action for a packet to none, or LEFT. */
static __noinline int turn_to(struct xdp_md *ctx, __u32 *cluster, const struct site *site, const struct straight *head)
{
	const struct config *c = settings();
	struct flow_key key;

	if (!c->enclosed || site->translates || site->shares)
		return LEFT;
	straight_key(&key, head);
	if (cluster_of(cluster, site, &key) != NONE)
		return 0;
	count_straight(ctx, ACTION_PASS, REASON_NOT_OURS);
	if (c->trace)
		trace(REASON_NOT_OURS, ACTION_PASS, NONE, 0);
	return XDP_PASS;
}

/* The next hop to a server; NULL where it has to be looked up. */
static __always_inline struct hop *straight_hop(__u32 number, __u64 now)
{
	struct hop *hop = bpf_map_lookup_elem(&hops, &number);

	return unlikely(!hop || hop->until < now || !hop->known) ? NULL : hop;
}

/* Drops a frame that has no room for another header. */
static __noinline int drop_unsent(void)
{
	count_side(SIDE_NOT_SENT);
	return XDP_DROP;
}

/* Sends the frame with a head and a packet of this size to a server, in another header. `hash`: selects the outer source address. */
static __always_inline int send_inside(struct xdp_md *ctx, struct straight *head, const struct site *site,
				       const struct server *server, __u32 size, __u8 dscp, __u64 hash,
				       const struct hop *hop)
{
	__u32 class = bpf_ntohl(head->ip.word) >> 20 & 0xff;

	if (dscp != NO_DSCP)
		class = dscp << 2 | (class & 3);
	if (unlikely(bpf_xdp_adjust_head(ctx, -(int)sizeof(head->ip))))
		return drop_unsent();
	head = straight_bytes(ctx);
	if (!head)
		return XDP_DROP;
	head->link.h_proto = bpf_htons(ETH_P_IPV6);
	head->ip.word = bpf_htonl(6u << 28 | class << 20 | (hash & 0xfffff));
	head->ip.length = bpf_htons(size);
	head->ip.next = IPPROTO_IPV6;
	head->ip.hops = OUTER_HOPS;
	head->ip.source[0] = site->encap_source;
	head->ip.source[1] = bpf_cpu_to_be64(hash);
	head->ip.destination[0] = server->address[0];
	head->ip.destination[1] = server->address[1];
	return send_from(ctx, &head->link, hop);
}

/* Sends the frame with a head to a server that is not under nat; an XDP action. */
static __always_inline int send_straight(struct xdp_md *ctx, struct straight *head, const struct site *site,
					 const struct server *server, __u8 dscp, __u64 hash, struct hop *hop)
{
	__u32 size = straight_size(head);

	hop->packets++;
	hop->bytes += size;
	head->ip.hops--;
	if (server->mode == MODE_ENCAP)
		return send_inside(ctx, head, site, server, size, dscp, hash, hop);
	if (dscp != NO_DSCP)
		head->ip.word = (head->ip.word & bpf_htonl(0xf03fffff)) | bpf_htonl((__u32)dscp << 22);
	return send_from(ctx, &head->link, hop);
}
