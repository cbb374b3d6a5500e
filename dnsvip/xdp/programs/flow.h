/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The connection key table, as dnsvip/dispatcher/flows/flow.py and nat.py: new flows apart from established ones. */
#pragma once
#include "parse.h"
#include "rows.h"
#include "siphash.h"
#include "usage.h"

#define FLOW_STEP 0x9e3779b97f4a7c15ULL /* as in maglev.py */
#define FLOW_END1 0xff51afd7ed558ccdULL
#define FLOW_END2 0xc4ceb9fe1a85ec53ULL

static __always_inline __u64 with_word(__u64 h, __u64 word)
{
	return (h + word) * FLOW_STEP;
}

/* `last`: the bytes after the last whole word, with the message's length in the top byte. */
static __always_inline __u64 finished(__u64 h, __u64 last)
{
	h = with_word(h, last);
	h = (h ^ h >> 33) * FLOW_END1;
	h = (h ^ h >> 33) * FLOW_END2;
	return h ^ h >> 33;
}

/* `key_hash` of IPv6. */
static __always_inline __u64 key_hash6(const struct flow_key *k)
{
	__u64 ports = k->source_port | (__u64)k->destination_port << 16;
	__u64 h = with_word(0, k->protocol | k->source[0] << 8);

	h = with_word(h, k->source[0] >> 56 | k->source[1] << 8);
	h = with_word(h, k->source[1] >> 56 | k->destination[0] << 8);
	h = with_word(h, k->destination[0] >> 56 | k->destination[1] << 8);
	return finished(h, k->destination[1] >> 56 | ports << 8 | 37ULL << 56);
}

/* The 64-bit hash of a flow's key: of its bytes as in packet.py, 37 for IPv6 and 13 for IPv4. */
static __noinline __u64 key_hash(const struct flow_key *k)
{

	__u64 ports = k->source_port | (__u64)k->destination_port << 16;
	__u64 source = k->source[1] >> 32, destination = k->destination[1] >> 32;

	if (k->version == 6)
		return key_hash6(k);
	return finished(with_word(0, k->protocol | source << 8 | destination << 40),
			destination >> 24 | ports << 8 | 13ULL << 56);
}

static __always_inline int is_anonymous(const struct flow *flow)
{
	return flow->anonymous & ANONYMOUS;
}

static __always_inline __u32 priority_of(const struct flow *flow)
{
	return flow->anonymous >> PRIORITY_SHIFT;
}

static __always_inline int is_idle(const struct flow *flow, __u32 now)
{
	__s32 life = flow->closing ? CLOSING_SECONDS : flow->answered ? (__s32)flow->life : NEW_SECONDS;

	if (is_anonymous(flow) && life > YOUNG_SECONDS && (__s32)(flow->seen - flow->opened) < YOUNG_SECONDS)
		life = YOUNG_SECONDS;
	return (__s32)(now - flow->seen) > life;
}

/* The flow with a key, unless it has expired at `now`. */
static __always_inline struct flow *live_flow(const struct flow_key *key, __u32 now)
{
	struct flow *flow = find_flow(key);

	return flow && !is_idle(flow, now) ? flow : NULL;
}

/* Why packets of a flow that has ended are dropped. */
static __always_inline __u8 ended_reason(const struct flow *flow)
{
	return flow->owner & CLIENT_ENDED ? REASON_REVOKED : REASON_TIER_DROP;
}

/* The key of a flow's replies from its server. */
static __always_inline void reply_key(struct flow_key *reply, const struct flow_key *key, const __be64 *server,
				      __be16 port)
{
	reply->source[0] = server[0];
	reply->source[1] = server[1];
	reply->destination[0] = key->source[0];
	reply->destination[1] = key->source[1];
	reply->source_port = key->destination_port;
	reply->destination_port = port;
	reply->protocol = key->protocol;
	reply->version = key->version;
	reply->zero = 0;
}

/* Removes a flow's entry in `replies`. */
static __noinline int close_translation(struct flow *flow)
{
	struct site *site = current_site();
	struct flow_key reply, *original;
	__u32 number;

	if (!site || !flow || !flow->translated)
		return 0;
	number = (flow->owner & ~ENDED) >> 8;
	if (number >= MAX_SERVERS)
		return 0;
	flow->translated = 0;
	reply_key(&reply, &flow->key, site->servers[number].address, flow->port);
	original = bpf_map_lookup_elem(&replies, &reply);
	if (original && is_same(original, &flow->key))
		bpf_map_delete_elem(&replies, &reply);
	return 0;
}

/* The counter of the established flows that a flow's client has. */
static __always_inline __u64 *places_of(const struct flow *flow)
{
	__u32 place = flow->client * 0x9E3779B97F4A7C15ULL >> 48;

	return bpf_map_lookup_elem(&places, &place);
}

/* Accounts an established flow to those that are anonymous, or to its client. */
static __always_inline void count_place(struct lanes *l, const struct flow *flow, __s64 by)
{
	__u64 *count = is_anonymous(flow) ? &l->anonymous : places_of(flow);

	if (count)
		__sync_fetch_and_add(count, by);
}

/* Removes a flow. */
static __noinline int forget(struct flow *flow)
{
	struct lanes *l = lanes_now();
	__u32 number;
	int established;

	if (!flow || !l || !replace_word(flow, 0))
		return 0;
	number = flow->word & l->number_mask;
	add_up(flow);
	close_translation(flow);
	established = flow->state == FLOW_ESTABLISHED;
	flow->state = FLOW_NONE;
	if (established) {
		bpf_map_push_elem(&spare, &number, BPF_ANY);
		__sync_fetch_and_sub(&l->established, 1);
		count_place(l, flow, -1);
	}
	return 1;
}

/* A free place among the established flows; NONE where there is none. */
static __always_inline __u32 spare_place(struct lanes *l)
{
	__u32 number;

	if (!bpf_map_pop_elem(&spare, &number))
		return number;
	if (l->used >= l->established_places)
		return NONE;
	number = __sync_fetch_and_add(&l->used, 1);
	return number < l->established_places ? number : NONE;
}

/* Whether a flow may be established: anonymous ones have a share of the places, and one client of the last ones. */
static __always_inline int has_share(const struct lanes *l, const struct flow *flow)
{
	__u64 bound = l->established_places, *count;

	if (l->established >= bound)
		return 0;
	if (is_anonymous(flow))
		return l->anonymous < bound / ANONYMOUS_SHARE;
	if (l->established < bound - bound / CLIENT_SHARE)
		return 1;
	count = places_of(flow);
	return !count || *count < bound / CLIENT_SHARE;
}

/* Establishes a new flow: its record moves. Where there is no space it stays new and is still forwarded. Returns the
 * flow's record from now on. */
static __always_inline struct flow *establish(struct lanes *l, struct flow *flow)
{
	struct flow *moved;
	__u32 number;

	if (has_share(l, flow)) {
		number = spare_place(l);
		moved = number == NONE ? NULL : record_at(l->new_places + number);
		if (moved) {
			*moved = *flow;
			moved->state = FLOW_ESTABLISHED;
			moved->word = (flow->word & ~l->number_mask) | ESTABLISHED | number;
			if (replace_word(flow, moved->word)) {
				__sync_fetch_and_add(&l->established, 1);
				count_place(l, moved, 1);
				flow->state = FLOW_NONE;
				return moved;
			}
			moved->state = FLOW_NONE;
			bpf_map_push_elem(&spare, &number, BPF_ANY);
			return flow;
		}
	}
	count_side(SIDE_KEPT_NEW);
	return flow;
}

#define LOOKS 8 /* so many of the oldest new flows are looked at for one that gives way */

/* A priority above the lowest of the site; 0 also of one that an earlier site had. */
static __always_inline __u32 rank_of(const struct site *site, __u32 priority)
{
	return priority > site->lowest ? priority - site->lowest : 0;
}

/* The sequence number of a new flow of a priority: the next one whose place is free, or has a flow of a lower rank or of the
 * lowest; the last one that is looked at also from one of the same rank. Flows that stay get the number instead, as if
 * they were new. 0 where none gives way. (Global, so that the kernel verifies it by itself, once.) */
__noinline __u64 take_ranked_place(__u32 priority, __u32 now)
{
	struct site *site = current_site();
	struct lanes *l = lanes_now();
	__u32 rank, there, word;
	struct flow *flow;
	__u64 number;
	int left;

	if (!site || !l)
		return 0;
	rank = rank_of(site, priority);
	for (left = LOOKS; left > 0; left--) {
		number = __sync_fetch_and_add(&l->cursor, 1);
		flow = record_at(number % l->new_places);
		if (!flow || flow->state != FLOW_NEW || is_idle(flow, now))
			return number;
		there = rank_of(site, priority_of(flow));
		if (there < rank || !there || (there == rank && left == 1))
			return number;
		word = (flow->word & ~l->number_mask) | (number & l->number_mask);
		if (!replace_word(flow, word))
			return number;
		flow->word = word;
	}
	return 0;
}

/* As `take_ranked_place`, also where all flows have the same rank. */
static __always_inline __u64 take_place(struct lanes *l, const struct site *site, __u32 priority, __u32 now)
{
	return site->ranked ? take_ranked_place(priority, now) : __sync_fetch_and_add(&l->cursor, 1);
}

/* Where a new flow is recorded. */
struct slot {
	struct flow *flow; /* the record of the oldest new flow, which is evicted */
	__u32 word;
	__u32 place;
	__u32 phase; /* when it was added to the filter */
	__u32 bits;  /* its bits in the filter */
};

/* Takes a record and an index word for a key with a hash; 0 where there is no space. `forged`: its address is.
 * The caller writes the record, `word` last: until then no look-up matches it. (Atomic operations wait for earlier
 * writes, so the record, which is seldom in the processor's cache, is written after all of them.) */
static __always_inline int next_slot(struct lanes *l, const struct site *site, __u64 address, __u64 hash,
				     int forged, __u32 priority, __u32 now, struct slot *slot)
{
	__u32 home = hash & l->row_mask, column;
	struct row *row = row_at(home);
	__u64 number;

	if (!row)
		return 0;
	column = free_column(l, row, first_column(hash));
	number = take_place(l, site, priority, now);
	if (!number) {
		count_side(SIDE_NOT_REMEMBERED);
		return 0;
	}
	slot->word = tag_of(l, hash) | (number & l->number_mask);
	column = put_into(l, row, column, slot->word);
	if (column >= WORDS) {
		row->words[MARK] = sweeps_of(l->phase);
		slot->word |= DISPLACED;
		home ^= 1;
		row = row_at(home);
		column = row ? put_into(l, row, 0, slot->word) : WORDS;
		if (column >= WORDS) {
			count_side(SIDE_NOT_REMEMBERED);
			return 0;
		}
	}
	slot->bits = filter_bits(hash) | (forged ? STRAY : 0);
	slot->phase = filter_add(l, address, slot->bits);
	slot->place = home << COLUMN_BITS | column;
	slot->flow = record_at(number % l->new_places);
	if (!slot->flow)
		return 0;
	if (slot->flow->state && slot->flow->packets != slot->flow->counted)
		add_up(slot->flow);
	if (site->translates && slot->flow->state && slot->flow->translated)
		close_translation(slot->flow);
	return 1;
}

/* Publishes a record after it was written. */
static __always_inline void complete(const struct lanes *l, const struct slot *slot, __u64 address)
{
	barrier();
	slot->flow->word = slot->word;
	if (phase_now(l) != slot->phase)
		filter_add(l, address, slot->bits);
}

/* Notes that a TCP flow has gone on after its SYN, if it is one that used a proven address. */
static __always_inline void end_use(const struct flow_key *key)
{
	struct use_key address = { .address = { key->destination[0], key->destination[1] } };
	struct used *use = bpf_map_lookup_elem(&uses, &address);

	if (use && is_same(&use->key, key))
		use->ended = 1;
}

/* The known flow of a packet, updated by the packet. */
static __always_inline struct flow *follow_flow(struct lanes *l, struct packet *p, const __u32 *filter, __u64 hash,
					  __u32 now)
{
	struct flow *flow;

	/* A segment without SYN nearly always belongs to a known flow: the filter would only delay it. */
	if ((p->flags & SYN || p->key.protocol != IPPROTO_TCP) && !may_be_known(filter, hash))
		return NULL;
	flow = look_up(l, &p->key, hash);
	if (!flow)
		return NULL;
	if (flow->seen != now) {
		if (is_idle(flow, now)) {
			forget(flow);
			return NULL;
		}
		flow->seen = now;
	}
	if (p->flags && !(p->flags & SYN) && flow->state == FLOW_NEW && !flow->answered && flow->client)
		end_use(&p->key);
	if (p->flags & (SYN | FIN | RST)) {
		if (!(p->flags & SYN))
			flow->closing = 1;
		return flow;
	}
	if (flow->state != FLOW_NEW)
		return flow;
	flow->answered = 1;
	if (flow->anonymous & STAYS_NEW || (is_anonymous(flow) && now <= flow->opened))
		return flow;
	return establish(l, flow);
}

/* Whether a packet of a known flow may begin another connection: most do not. */
static __always_inline int may_open(const struct packet *p, const struct flow *flow)
{
	return p->flags & SYN || flow->anonymous & TAKEN_OVER;
}

/* Whether a packet of a known flow begins another connection: a SYN without ACK, unless it may be the one that opened
 * the flow, sent again: it is neither answered nor closing. Of a flow that was taken over also a datagram that is not of a running one. */
static __noinline int opens_again(struct xdp_md *ctx, const struct packet *p, const struct flow *flow, __u32 now)
{
	if (p->key.protocol == IPPROTO_UDP)
		return flow->anonymous & TAKEN_OVER && !is_running(ctx, p);
	return opens(p) && (flow->answered || flow->closing || (__s32)(now - flow->opened) > RETRY_SECONDS);
}
