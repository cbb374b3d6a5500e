/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What a client computes with its key, as dnsvip/address/proof.py: SipHash of 40 bytes for one use in one slot, of an
 * address and what of its source the client is bound to; and the proof, which is the first of these. */
#pragma once
#include "siphash.h"
#include "work.h"

#define PROOF_SLOTS 3
#define USE_PROOF 0
#define USE_CLAIMS 1
#define USE_LABEL 2
#define USE_LABEL_MAC 0x1000 /* + the masked claims */

/* Notes what a client binds its proofs to; its key has not been looked up yet. */
static __always_inline void speak_for(struct work *w, const struct client *client)
{
	int address = client && client->bind_address;

	w->key_known = 0;
	w->bound[0] = address ? w->packet.key.source[0] : 0;
	w->bound[1] = address ? w->packet.key.source[1] : 0;
	w->bound_port = client && client->bind_port ? w->packet.key.source_port : 0;
}

/* Looks up the key of the client of work.address_verdict, once a packet; returns whether there is one. */
static __always_inline int find_key(struct work *w, const struct cluster *c)
{
	struct client_key_name name = {.client = w->address_verdict.client, .master = c->master};
	struct client_key *key;

	if (w->key_known)
		return w->has_key;
	key = bpf_map_lookup_elem(&client_keys, &name);
	w->key_known = 1;
	w->has_key = !!key;
	if (key) {
		w->key[0] = key->words[0];
		w->key[1] = key->words[1];
	}
	return w->has_key;
}

/* The hash of an address, in network byte order, and of what is bound: all but the last word. */
static __always_inline void mac_start(struct sip *s, const struct work *w, __be64 high, __be64 low)
{
	sip_start(s, w->key[0], w->key[1]);
	sip_word(s, high);
	sip_word(s, low);
	sip_word(s, w->bound[0]);
	sip_word(s, w->bound[1]);
}

static __always_inline __u64 mac_end(struct sip s, const struct work *w, __u32 use, __u32 slot)
{
	sip_word(&s, w->bound_port | (__u64)bpf_htons(use) << 16 | (__u64)bpf_htonl(slot) << 32);
	return sip_end(&s, 40ULL << 56);
}

/* The slots that count at this moment, in the order of the reference: of a short proof more than one may be right. */
static __always_inline __u32 slot_of(const struct work *w, const struct cluster *c, int n)
{
	__u32 now = w->seconds / c->slot_seconds;

	return n ? n == 1 ? now - 1 : now + 1 : now;
}

/* Whether the mode-1 address of work.packet matches its client's key, its source and the time. (Global, so that the
 * kernel verifies it by itself, once.) */
__noinline int proves(void)
{
	struct site *site = current_site();
	struct work *w = work();
	struct cluster *c;
	struct sip bound;
	__u64 mask, address;
	int n;

	if (!site || !w || w->address_verdict.cluster >= MAX_CLUSTERS)
		return 0;
	c = &site->clusters[w->address_verdict.cluster];
	if (!find_key(w, c) || !c->slot_seconds)
		return 0;
	mask = (1ULL << (c->proof_bits & 63)) - 1;
	address = bpf_be64_to_cpu(w->packet.key.destination[1]);
	mac_start(&bound, w, w->packet.key.destination[0],
		  w->packet.key.destination[1] & bpf_cpu_to_be64(~c->tag_mask));
	for (n = 0; n < PROOF_SLOTS; n++) {
		w->slot = slot_of(w, c, n);
		if (!((address ^ mac_end(bound, w, USE_PROOF, w->slot) >> (64 - c->proof_bits)) & mask))
			return 1;
	}
	return 0;
}
