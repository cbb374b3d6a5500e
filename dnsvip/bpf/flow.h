/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The connection key table, as dnsvip/dispatcher/flow.py and nat.py: new flows apart from established ones. */
#pragma once
#include "siphash.h"
#include "work.h"

#define FLOW_K0 0x6620706976736e64ULL /* "dnsvip flow   v1", as maglev.py has it */
#define FLOW_K1 0x3176202020776f6cULL

enum lane { LANE_NONE, LANE_FRESH, LANE_ESTABLISHED };

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

static __always_inline struct flow *flow_in(__u32 lane, const struct flow_key *key)
{
	return lane == LANE_ESTABLISHED ? bpf_map_lookup_elem(&established, key) : bpf_map_lookup_elem(&fresh, key);
}

static __always_inline struct flow *find_flow(const struct flow_key *key, __u32 *lane)
{
	struct flow *flow = bpf_map_lookup_elem(&established, key);

	*lane = LANE_ESTABLISHED;
	if (!flow) {
		flow = bpf_map_lookup_elem(&fresh, key);
		*lane = flow ? LANE_FRESH : LANE_NONE;
	}
	return flow;
}

static __always_inline int is_idle(const struct flow *flow, __u32 lane, __u32 now)
{
	__s32 life = flow->closing ? CLOSING_SECONDS : lane == LANE_FRESH ? NEW_SECONDS : (__s32)flow->life;

	return (__s32)(now - flow->seen) > life;
}

/* The flow with a key that is known at `now`. */
static __always_inline struct flow *live_flow(const struct flow_key *key, __u32 now, __u32 *lane)
{
	struct flow *flow = find_flow(key, lane);

	return flow && !is_idle(flow, *lane, now) ? flow : NULL;
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
	found = bpf_map_lookup_elem(&replies_fresh, &reply);
	if (found && !__builtin_memcmp(found, key, sizeof(*key)))
		bpf_map_delete_elem(&replies_fresh, &reply);
	return 0;
}

/* Forgets a flow. */
__noinline int forget(struct flow_key *key)
{
	struct flow copy, *flow;
	__u32 lane;

	if (!key)
		return 0;
	flow = find_flow(key, &lane);
	if (!flow)
		return 0;
	copy = *flow;
	close_translation(key, &copy);
	if (lane == LANE_ESTABLISHED)
		bpf_map_delete_elem(&established, key);
	else
		bpf_map_delete_elem(&fresh, key);
	return 0;
}

/* Moves a new flow to the established ones; where those are full it stays new, and is forwarded all the same. */
__noinline int establish(struct flow_key *key)
{
	struct site *site = current_site();
	struct flow copy, *flow;
	struct flow_key reply;
	__u32 number;

	if (!key || !site)
		return 0;
	flow = bpf_map_lookup_elem(&fresh, key);
	if (!flow)
		return 0;
	copy = *flow;
	if (bpf_map_update_elem(&established, key, &copy, BPF_NOEXIST)) {
		note(SIDE_KEPT_NEW);
		return 0;
	}
	number = copy.owner >> 8;
	if (copy.translated && number < MAX_SERVERS) {
		reply_key(&reply, key, site->servers[number].address, copy.port);
		bpf_map_update_elem(&replies, &reply, key, BPF_ANY);
		bpf_map_delete_elem(&replies_fresh, &reply);
	}
	bpf_map_delete_elem(&fresh, key);
	return 1;
}

/* The known flow that a packet has come for, after noting the packet. A SYN on a flow that is closing is a new
 * connection: the old flow is forgotten. */
static __always_inline struct flow *touch(struct packet *p, __u32 now, __u32 *lane)
{
	struct flow *flow = find_flow(&p->key, lane);

	if (!flow)
		return NULL;
	if ((flow->seen != now && is_idle(flow, *lane, now)) || (p->flags & SYN && flow->closing)) {
		forget(&p->key);
		return NULL;
	}
	if (flow->seen != now)
		flow->seen = now;
	if (p->flags & (FIN | RST)) {
		flow->closing = 1;
		return flow;
	}
	if (*lane == LANE_FRESH && !(p->flags & SYN) && establish(&p->key)) {
		*lane = LANE_ESTABLISHED;
		flow = bpf_map_lookup_elem(&established, &p->key);
	}
	return flow;
}
