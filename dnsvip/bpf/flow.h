/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The connection key table, as dnsvip/dispatcher/flow.py and nat.py: new flows apart from established ones. */
#pragma once
#include "siphash.h"
#include "work.h"

#define FLOW_K0 0x6620706976736e64ULL /* "dnsvip flow   v1", as maglev.py has it */
#define FLOW_K1 0x3176202020776f6cULL

/* The 64-bit hash of a flow's key: of its bytes as packet.py writes them, 37 for IPv6 and 13 for IPv4. */
static __always_inline __u64 key_hash(const struct flow_key *k)
{
	__u64 ports = k->source_port | (__u64)k->destination_port << 16;
	struct sip s;

	sip_start(&s, FLOW_K0, FLOW_K1);
	if (k->version == 4) {
		__u64 source = k->source[1] >> 32, destination = k->destination[1] >> 32;

		sip_word(&s, k->protocol | source << 8 | destination << 40);
		return sip_end(&s, destination >> 24 | ports << 8 | 13ULL << 56);
	}
	sip_word(&s, k->protocol | k->source[0] << 8);
	sip_word(&s, k->source[0] >> 56 | k->source[1] << 8);
	sip_word(&s, k->source[1] >> 56 | k->destination[0] << 8);
	sip_word(&s, k->destination[0] >> 56 | k->destination[1] << 8);
	return sip_end(&s, k->destination[1] >> 56 | ports << 8 | 37ULL << 56);
}

static __always_inline struct lanes *lanes_now(void)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&lanes, &key);
}

/* Spreads flow keys over the filter; who makes keys meet only makes them be looked for. */
static __always_inline __u64 filter_hash(const struct flow_key *k)
{
	__u64 ports = k->source_port | (__u64)k->destination_port << 16 | (__u64)k->protocol << 32;
	__u64 h = (k->source[0] ^ k->destination[0] >> 17) * 0x9e3779b97f4a7c15ULL;

	h = (h ^ h >> 29 ^ k->source[1]) * 0xbf58476d1ce4e5b9ULL;
	h = (h ^ h >> 32 ^ k->destination[1] ^ ports << 13) * 0x94d049bb133111ebULL;
	return h ^ h >> 31;
}

static __always_inline __u64 *filter_word(__u64 hash, __u32 half)
{
	__u32 number = (hash >> 6 & (entries_of(&filters) / 2 - 1)) * 2 + half; /* both halves of a word in one cache line */

	return bpf_map_lookup_elem(&filters, &number);
}

static __always_inline int may_be_known(const struct flow_key *key)
{
	struct lanes *l = lanes_now();
	__u64 hash = filter_hash(key), *word = l ? filter_word(hash, l->filter) : NULL;

	return !word || *word >> (hash & 63) & 1;
}

static __always_inline void filter_add(__u64 hash, __u32 half)
{
	__u64 *word = filter_word(hash, half), bit = 1ULL << (hash & 63);

	if (word && !(*word & bit))
		__sync_fetch_and_or(word, bit);
}

static __always_inline struct flow *find_flow(const struct flow_key *key)
{
	return bpf_map_lookup_elem(&flows, key);
}

static __always_inline int is_idle(const struct flow *flow, __u32 now)
{
	__s32 life = flow->closing ? CLOSING_SECONDS : flow->fresh ? NEW_SECONDS : (__s32)flow->life;

	return (__s32)(now - flow->seen) > life;
}

/* The flow with a key that is known at `now`. */
static __always_inline struct flow *live_flow(const struct flow_key *key, __u32 now)
{
	struct flow *flow = find_flow(key);

	return flow && !is_idle(flow, now) ? flow : NULL;
}

/* The key of a flow's replies, from the server that it has. */
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

/* Forgets which replies are a flow's. */
__noinline int close_translation(struct flow_key *key, struct flow *flow)
{
	struct site *site = current_site();
	struct flow_key reply, *found;
	__u32 number;

	if (!site || !key || !flow || !flow->translated)
		return 0;
	number = flow->owner >> 8;
	if (number >= MAX_SERVERS)
		return 0;
	flow->translated = 0;
	reply_key(&reply, key, site->servers[number].address, flow->port);
	found = bpf_map_lookup_elem(&replies, &reply);
	if (found && !__builtin_memcmp(found, key, sizeof(*key)))
		bpf_map_delete_elem(&replies, &reply);
	return 0;
}

/* Forgets a flow. */
__noinline int forget(struct flow_key *key)
{
	struct lanes *l = lanes_now();
	struct flow copy, *flow;

	if (!key || !l)
		return 0;
	flow = find_flow(key);
	if (!flow)
		return 0;
	copy = *flow;
	close_translation(key, &copy);
	if (!bpf_map_delete_elem(&flows, key) && !copy.fresh)
		__sync_fetch_and_sub(&l->established, 1);
	return 0;
}

/* A new flow is established by its second packet. Where there is no room it stays new, and is forwarded all the same. */
static __always_inline void establish(struct flow *flow)
{
	struct lanes *l = lanes_now();

	if (!l)
		return;
	if (__sync_fetch_and_add(&l->established, 1) < entries_of(&flows) - entries_of(&fresh)) {
		flow->fresh = 0;
		return;
	}
	__sync_fetch_and_sub(&l->established, 1);
	note(SIDE_KEPT_NEW);
}

/* Remembers a new flow, in the place of the oldest new one where all places are taken. */
__noinline int record(struct flow_key *key, struct flow *flow)
{
	struct lanes *l = lanes_now();
	struct flow_key before, *place;
	struct flow *old;
	__u32 number;
	__u64 hash;

	if (!key || !flow || !l)
		return 0;
	number = __sync_fetch_and_add(&l->cursor, 1) % entries_of(&fresh);
	place = bpf_map_lookup_elem(&fresh, &number);
	if (!place)
		return 0;
	if (place->version) {
		before = *place;
		old = find_flow(&before);
		if (old && old->fresh && old->place == number)
			forget(&before);
	}
	*place = *key;
	flow->place = number;
	flow->fresh = 1;
	if (bpf_map_update_elem(&flows, key, flow, BPF_ANY))
		return -1;
	hash = filter_hash(key);
	filter_add(hash, 0);
	filter_add(hash, 1);
	return 0;
}

/* The known flow that a packet has come for, after noting the packet. A SYN on a flow that is closing is a new
 * connection: the old flow is forgotten. */
static __always_inline struct flow *touch(struct packet *p, __u32 now)
{
	struct flow *flow;

	/* A segment without SYN is of a known flow, or seldom comes: the filter would only delay it. */
	if ((p->flags & SYN || p->key.protocol != IPPROTO_TCP) && !may_be_known(&p->key))
		return NULL;
	flow = find_flow(&p->key);
	if (!flow)
		return NULL;
	if (flow->seen != now) {
		if (is_idle(flow, now)) {
			forget(&p->key);
			return NULL;
		}
		flow->seen = now;
	}
	if (p->flags & (SYN | FIN | RST)) {
		if (!(p->flags & SYN)) {
			flow->closing = 1;
		} else if (flow->closing) {
			forget(&p->key);
			return NULL;
		}
		return flow;
	}
	if (flow->fresh)
		establish(flow);
	return flow;
}
