/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Packets that another dispatcher decides about, as dnsvip/dispatcher/peers.py and relaying.py: it owns the single use
 * or the translation of their flow. */
#pragma once
#include "decode.h"
#include "flow.h"
#include "routes.h"

enum step { RELAYED_TO_OWNER = 1, RELAYED_TO_SECOND };

/* Sets the verdict that forwards a packet to a server (whose number is under MAX_SERVERS). */
static __always_inline void forward_to(struct verdict *v, const struct site *site, __u32 owner, __u8 reason, __u64 hash)
{
	__u32 number = owner >> 8;

	opaque(number);
	number &= MAX_SERVERS - 1;
	set_verdict(v, ACTION_FORWARD, reason);
	v->server = number;
	v->dscp = owner & 255;
	v->mode = site->servers[number].mode;
	v->hash = hash;
}

static __always_inline __u64 owner_hash(const __be64 *address, const __be64 *key)
{
	__u64 h = with_word(with_word(0, address[0]), address[1]);

	return finished(with_word(with_word(h, key[0]), key[1]), 32ULL << 56);
}

/* Finds who owns a key of 16 bytes, into work.first and work.second. Always 0. */
__noinline int rank(__be64 high, __be64 low)
{
	struct site *site = current_site();
	struct work *w = work();
	__be64 key[2] = {high, low};
	__u64 best, next = 0, hash;
	__u32 n;

	if (!site || !w)
		return 0;
	best = owner_hash(site->peers.own, key);
	w->first = w->second = NONE;
	for (n = 0; n < MAX_PEERS; n++) {
		if (n >= site->peers.count)
			break;
		hash = owner_hash(site->peers.peer[n].address, key);
		if (hash > best) {
			next = best;
			w->second = w->first;
			best = hash;
			w->first = site->peers.peer[n].server;
		} else if (hash > next) {
			next = hash;
			w->second = site->peers.peer[n].server;
		}
	}
	return 0;
}

/* Sets the verdict that relays a packet to another dispatcher; 0 where the number is none's. */
__noinline int relay_to(__u32 server, __u32 step, __u32 reason)
{
	struct site *site = current_site();
	struct work *w = work();
	__u64 mark;

	if (!site || !w || server >= MAX_SERVERS)
		return 0;
	mark = sip_address(site->peers.key, wide_of(w->packet.key.destination));
	forward_to(&w->verdict, site, server << 8 | NO_DSCP, reason, step == RELAYED_TO_SECOND ? ~mark : mark);
	w->dscp = NO_DSCP;
	return 1;
}

/* Whether another dispatcher owns the translations of the client of work.packet; sets work.first. */
__noinline int find_owner(void)
{
	struct site *site = current_site();
	struct work *w = work();

	if (!site || !w || !site->shares || w->step)
		return 0;
	rank(w->packet.key.source[0], w->packet.key.source[1]);
	return w->first != NONE;
}

/* Whether the known flow of a SYN is relayed to another dispatcher. */
static __always_inline int is_relayed(const struct work *w, const struct site *site)
{
	struct flow *flow = find_flow(&w->packet.key);
	__u32 number = flow ? flow->owner >> 8 : NONE;

	return number < MAX_SERVERS && site->servers[number].peer;
}

/* Whether servers of a pool that take flows of an IP version are under nat. */
static __always_inline int is_translated(const struct site *site, __u32 pool, __u8 version)
{
	if (pool >= MAX_POOLS)
		return 0;
	opaque(pool);
	pool &= MAX_POOLS - 1;
	return version == 4 ? site->pools[pool].translates4 : site->pools[pool].translates6;
}

/* Whether another dispatcher owns the flow of work.packet, whose address is verified: work.first. One that is known here
 * with a server stays here. */
__noinline int flow_owner(void)
{
	struct site *site = current_site();
	struct work *w = work();
	struct address_verdict *j;
	int by_nat, single;

	if (!site || !w || w->step || !site->peers.count)
		return 0;
	j = &w->address_verdict;
	if (j->tier >= MAX_TIERS || site->tiers[j->tier].drop || (w->again && !is_relayed(w, site)))
		return 0;
	route_plain(w);
	by_nat = is_translated(site, j->route.pool, w->packet.version);
	single = j->single && !j->unproven && (j->reason == REASON_PROVEN || j->reason == REASON_RESUMED);
	if (!by_nat && !single)
		return 0;
	if (single && !by_nat && !j->bound)
		rank(w->packet.key.destination[0], w->packet.key.destination[1]);
	else
		rank(w->packet.key.source[0], w->packet.key.source[1]);
	return w->first != NONE;
}

/* Whether a packet of a server under nat that answers no flow known here is for another dispatcher, work.first; the step
 * that it is relayed by, 0 where it is passed on. */
__noinline int reply_owner(void)
{
	struct site *site = current_site();
	struct work *w = work();
	struct use_key name;
	__u32 *version;

	if (!site || !w || !site->peers.count)
		return 0;
	name.address[0] = w->packet.key.source[0];
	name.address[1] = w->packet.key.source[1];
	version = bpf_map_lookup_elem(&translated, &name);
	if (!version || *version != w->packet.version)
		return 0;
	rank(w->packet.key.destination[0], w->packet.key.destination[1]);
	if (!w->step && w->first != NONE)
		return RELAYED_TO_OWNER;
	if (w->step && (w->step != RELAYED_TO_OWNER || site->peers.count < 2))
		return 0;
	w->first = w->second;
	return RELAYED_TO_SECOND;
}

/* Relays a packet of a server under nat that answers no flow known here; 0 where it is passed on. */
__noinline int relay_reply(void)
{
	struct work *w = work();
	int step = reply_owner();

	return w && step ? relay_to(w->first, step, REASON_RELAYED) : 0;
}

/* Writes the Ethernet type in front of the packet at `at`. Always 0. */
static __always_inline int store_type(struct xdp_md *ctx, __u32 at, __u16 type)
{
	__be16 *field = bytes_at(ctx, at - sizeof(*field), sizeof(*field));

	if (field)
		*field = bpf_htons(type);
	return 0;
}

/* The destination of the packet inside a tunnel, at `at`; 0 where it is not of the version that the outer next header
 * says, or too short. */
static __always_inline int inner_destination(struct xdp_md *ctx, const struct ip6_head *outer, __u32 at, struct wide *to)
{
	__u32 size = bpf_ntohs(outer->length);

	if (outer->next == IPPROTO_IPV6) {
		struct ip6_head *ip = size < sizeof(*ip) ? NULL : bytes_at(ctx, at, sizeof(*ip));

		if (!ip || *(__u8 *)ip >> 4 != 6)
			return 0;
		*to = wide_of(ip->destination);
	} else {
		struct ip4_head *ip = size < sizeof(*ip) ? NULL : bytes_at(ctx, at, sizeof(*ip));

		if (!ip || ip->version_length >> 4 != 4)
			return 0;
		to->hi = 0;
		to->lo = bpf_ntohl(ip->destination);
	}
	return 1;
}

/* Unwraps a packet that another dispatcher has relayed; sets work.step. Always 0. */
__noinline int unwrap(struct xdp_md *ctx)
{
	struct site *site = current_site();
	struct work *w = work();
	struct packet p = {};
	struct ip6_head *outer;
	struct wide to;
	__u8 link[ETH_HLEN + 8];
	__u32 at, step;
	__u64 made;
	int four;

	if (w)
		w->step = 0;
	if (!site || !w || !(site->peers.key[0] | site->peers.key[1]) || parse_ethernet(ctx, &p) != ETH_P_IPV6)
		return 0;
	at = p.network;
	outer = bytes_at(ctx, at, sizeof(*outer));
	if (!outer || (outer->next != IPPROTO_IPV6 && outer->next != IPPROTO_IPIP) ||
	    outer->destination[0] != site->peers.own[0] || outer->destination[1] != site->peers.own[1] ||
	    outer->source[0] != site->encap_source || !inner_destination(ctx, outer, at + sizeof(*outer), &to))
		return 0;
	four = outer->next == IPPROTO_IPIP;
	made = sip_address(site->peers.key, to) ^ bpf_be64_to_cpu(outer->source[1]);
	step = !made ? RELAYED_TO_OWNER : !~made ? RELAYED_TO_SECOND : 0;
	if (!step || at < ETH_HLEN || at > sizeof(link) || bpf_xdp_load_bytes(ctx, 0, link, at))
		return 0;
	if (bpf_xdp_adjust_head(ctx, sizeof(*outer)) || bpf_xdp_store_bytes(ctx, 0, link, at))
		return 0;
	w->step = step;
	return four ? store_type(ctx, at, ETH_P_IP) : 0;
}
