/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Verifies a destination address and decides whether it may open a flow, as dnsvip/dispatcher/verify does, in the
 * same order (dnsvip/address/README.md, "Decoding"). A forged address costs one SipHash. */
#pragma once
#include "cache.h"
#include "ff1.h"
#include "siphash.h"

#define PROOF_SLOTS 3

static __always_inline int has_prefix_of(const struct cluster *c, const struct flow_key *key)
{
	return c->present && c->version == key->version && !((key->destination[0] ^ c->prefix[0]) & c->mask[0]) &&
	       !((key->destination[1] ^ c->prefix[1]) & c->mask[1]);
}

/* The number of the cluster whose prefix contains a packet's destination, or NONE. Tries the last one first. */
static __always_inline __u32 cluster_of(__u32 *last, const struct site *site, const struct flow_key *key)
{
	__u32 *number;

	__u32 cluster = *last;

	if (cluster < MAX_CLUSTERS && has_prefix_of(&site->clusters[cluster], key))
		return cluster;
	if (key->version == 6) {
		struct prefix6 name = {.bits = 128, .address = {key->destination[0], key->destination[1]}};

		number = bpf_map_lookup_elem(&prefixes6, &name);
	} else {
		struct prefix4 name = {.bits = 32, .address = key->destination[1] >> 32};

		number = bpf_map_lookup_elem(&prefixes4, &name);
	}
	if (!number || *number >= MAX_CLUSTERS || !site->clusters[*number].present)
		return NONE;
	*last = *number;
	return *number;
}

static __always_inline int is_proven(const struct cluster *c, struct wide address)
{
	return (address.hi & c->mode_bit.hi) || (address.lo & c->mode_bit.lo);
}

static __always_inline const struct epoch *epoch_of(const struct cluster *c, struct wide address)
{
	return &c->epochs[shifted(address, c->epoch_shift & 127) & 3];
}

/* Whether the tag of an address is wrong; of a proven one, its part that is not the proof. */
static __always_inline int has_wrong_tag(const struct cluster *c, const struct epoch *e, struct wide address)
{
	struct wide body = {.hi = address.hi & c->mac_mask.hi, .lo = address.lo & c->mac_mask.lo};
	__u64 wrong = address.lo ^ sip_address(e->mac_key, body) >> (64 - c->tag_bits);

	return !!(wrong & (is_proven(c, address) ? c->cheap_mask : c->tag_mask));
}

/* Whether the site's keys do not verify a flow's destination, whatever the time and the source. */
__noinline int is_forged(struct flow_key *key, __u32 number)
{
	struct site *site = current_site();
	struct wide address;
	const struct cluster *c;
	const struct epoch *e;

	if (!site || !key || number >= MAX_CLUSTERS)
		return 0;
	c = &site->clusters[number];
	address = wide_of(key->destination);
	if (c->version == 4 || (address.hi == c->plain.hi && address.lo == c->plain.lo))
		return 0;
	e = epoch_of(c, address);
	return !e->present || has_wrong_tag(c, e, address);
}

static __always_inline __u32 *table_value(__u32 table, __u64 value)
{
	struct value_key key = {.table = table, .value = value};

	return bpf_map_lookup_elem(&values, &key);
}

static __always_inline __u64 field_of(const struct field *f, struct wide payload)
{
	__u64 mask = f->bits < 64 ? (1ULL << (f->bits & 63)) - 1 : ~0ULL;

	return shifted(payload, f->shift & 127) & mask;
}

/* Decrypts the payload into work.payload, unless it is cached. Returns 1 when decrypted, 0 when cached, negative on
 * error. */
static __always_inline int open_payload(struct work *w, const struct cluster *c, const struct epoch *e,
					struct wide address)
{
	struct wide *ciphertext = &w->decoded.payload;

	if (decoded_before(w, address, c->mac_mask, e->identity)) {
		w->payload = w->decoded.payload;
		return 0;
	}
	ciphertext->lo = shifted(address, c->tag_bits);
	ciphertext->hi = c->tag_bits < 64 ? address.hi >> (c->tag_bits & 63) : 0;
	if (c->payload_bits < 64) {
		ciphertext->lo &= (1ULL << (c->payload_bits & 63)) - 1;
		ciphertext->hi = 0;
	} else {
		ciphertext->hi &= (1ULL << (c->payload_bits & 63)) - 1;
	}
	count_side(SIDE_DECRYPTED);
	if (decrypt(e->cipher, c->payload_bits, e->mid.hi, e->mid.lo, ciphertext))
		return -1;
	w->decoded.address.hi = address.hi & c->mac_mask.hi;
	w->decoded.address.lo = address.lo & c->mac_mask.lo;
	w->decoded.payload = w->payload;
	w->decoded.identity = e->identity;
	w->decoded.generation = 0;
	w->decoded.tier = NONE;
	w->decoded.deadline = 0;
	return 1;
}

/* The tier of an authentic payload, where the client's record comes first; NONE where the payload is invalid. */
static __noinline __u32 payload_tier(const struct work *w, const struct cluster *c, const struct client *client)
{
	struct wide payload = w->payload;
	__u32 tier = c->default_tier, n;

	if (c->tier.bits) {
		__u32 *meaning = table_value(c->tier.table, field_of(&c->tier, payload));

		tier = meaning ? *meaning : NONE;
	}
	for (n = 0; n < MAX_ATTRIBUTES; n++) {
		__u64 value;

		if (n >= c->attribute_count)
			break;
		value = field_of(&c->attributes[n], payload);
		if (value && !table_value(c->attributes[n].table, value))
			return NONE;
	}
	return tier != NONE && client && client->tier != NONE ? client->tier : tier;
}

/* The first second at which an address has expired; the maximum where it lives as long as its epoch. */
static __always_inline __u64 deadline_of(const struct cluster *c, const struct epoch *e, struct wide payload)
{
	__u64 expiry = field_of(&c->expiry, payload), never = ~0ULL;
	__u64 forever = c->expiry.bits < 64 ? (1ULL << (c->expiry.bits & 63)) - 1 : never;

	if (!c->expiry.bits || !e->activated_at || expiry == forever || expiry >> 32)
		return never;
	return e->activated_at + expiry * c->expiry_unit;
}

/* Whether the mode-1 address of work.packet matches its client's key, its source and the time
 * (dnsvip/address/proof.py). */
__noinline int proves(__u64 id, __u32 bind_address, __u32 bind_port)
{
	struct site *site = current_site();
	struct work *w = work();
	struct client_key_name name = {.client = id};
	struct client_key *key;
	struct cluster *c;
	struct sip bound, s;
	__u64 mask, last, tag;
	__u32 slot;
	int n;

	if (!site || !w || w->address_verdict.cluster >= MAX_CLUSTERS)
		return 0;
	c = &site->clusters[w->address_verdict.cluster];
	name.master = c->master;
	key = bpf_map_lookup_elem(&client_keys, &name);
	if (!key || !c->slot_seconds)
		return 0;
	mask = (1ULL << (c->proof_bits & 63)) - 1;
	sip_start(&bound, key->words[0], key->words[1]);
	sip_word(&bound, w->packet.key.destination[0]);
	sip_word(&bound, w->packet.key.destination[1] & bpf_cpu_to_be64(~c->tag_mask));
	sip_word(&bound, bind_address ? w->packet.key.source[0] : 0);
	sip_word(&bound, bind_address ? w->packet.key.source[1] : 0);
	slot = w->seconds / c->slot_seconds - 1;
	for (n = 0; n < PROOF_SLOTS; n++, slot++) {
		last = bind_port ? w->packet.key.source_port : 0;
		last |= (__u64)bpf_htonl(slot) << 32;
		s = bound;
		sip_word(&s, last);
		tag = sip_end(&s, 40ULL << 56) >> (64 - c->proof_bits);
		if (!((bpf_be64_to_cpu(w->packet.key.destination[1]) ^ tag) & mask))
			return 1;
	}
	return 0;
}

/* Whether a proven address has opened another connection already: of another flow, or of one that is known to have
 * ended or been answered where the packet is a SYN. */
static __always_inline int is_replayed(struct work *w)
{
	const struct flow_key *key = &w->packet.key;
	struct remembered *use;

	w->use.address[0] = key->destination[0];
	w->use.address[1] = key->destination[1];
	use = bpf_map_lookup_elem(&uses, &w->use);
	return use && use->until >= w->seconds &&
	       (w->again == AGAIN_ANSWERED || (use->ended && opens(&w->packet)) ||
		__builtin_memcmp(&use->key, key, sizeof(*key)));
}

/* Steps 7 and 8: the client's state, and its proof where one is required. */
static __noinline __u8 check_client(struct work *w, const struct tier *tier,
				     const struct client *client, __u64 id, int proven)
{
	if (client && !client->enabled)
		return REASON_REVOKED;
	if (!proven)
		return tier->require_proof || (client && client->proof_required) ? REASON_UNPROVEN : REASON_ISSUED;
	if (!client || !proves(id, client->bind_address, client->bind_port))
		return REASON_BAD_PROOF;
	if (!client->single_use)
		return REASON_PROVEN;
	w->address_verdict.single = 1;
	return is_replayed(w) ? REASON_REPLAYED : REASON_PROVEN;
}

static __always_inline int set_address_verdict(struct address_verdict *j, __u8 reason, __u32 tier)
{
	j->reason = reason;
	j->tier = tier;
	return 0;
}

static __always_inline int verify4(struct address_verdict *j, const struct cluster *c, struct wide address)
{
	__u32 *tier;

	if (address.lo == c->plain.lo)
		return set_address_verdict(j, REASON_PLAIN, c->default_tier);
	tier = table_value(c->tier.table, address.lo);
	return tier ? set_address_verdict(j, REASON_CLASS, *tier) : set_address_verdict(j, REASON_BAD_PAYLOAD, NONE);
}

/* Whether an issued address was verified before, tag included, and still means the same. */
static __always_inline int verified_before(struct work *w, const struct config *settled, const struct epoch *e,
					 struct wide address)
{
	struct wide whole = {~0ULL, ~0ULL};

	w->decoded_hash = w->address_hash;
	return decoded_before(w, address, whole, e->identity) &&
	       w->decoded.generation == settled->generation &&
	       (!w->decoded.deadline || w->seconds < w->decoded.deadline);
}

static __always_inline void take_fields(struct address_verdict *j, const struct cluster *c, struct wide payload)
{
	if (c->client.bits)
		j->client = field_of(&c->client, payload);
	if (c->session.bits)
		j->session = field_of(&c->session, payload);
}

/* Evaluates the payload of an authentic address, into work.address_verdict. */
static __noinline int verify_payload(struct work *w, const struct site *site, const struct config *settled,
				    const struct epoch *e, const struct lanes *l)
{
	struct address_verdict *j = &w->address_verdict;
	const struct cluster *c;
	struct client *client = NULL;
	const struct tier *tier;
	struct wide address = wide_of(w->packet.key.destination);
	int proven, decrypted;
	__u64 deadline;
	__u32 number;

	if (j->cluster >= MAX_CLUSTERS)
		return 0;
	c = &site->clusters[j->cluster];
	proven = is_proven(c, address);
	w->decoded_hash = proven ? body_hash(l, address, c->mac_mask) : w->address_hash;
	decrypted = open_payload(w, c, e, address);
	if (decrypted < 0)
		return set_address_verdict(j, REASON_UNKNOWN_EPOCH, c->fallback_tier); /* its cipher is not set up */
	take_fields(j, c, w->payload);
	if (j->client)
		client = bpf_map_lookup_elem(&clients, &j->client);
	number = payload_tier(w, c, client);
	if (number >= MAX_TIERS)
		return set_address_verdict(j, REASON_BAD_PAYLOAD, c->fallback_tier);
	deadline = deadline_of(c, e, w->payload);
	if (w->seconds >= deadline)
		return set_address_verdict(j, REASON_EXPIRED, c->fallback_tier);
	tier = &site->tiers[number];
	j->reason = check_client(w, tier, client, j->client, proven);
	if (j->reason == REASON_ISSUED) {
		w->decoded.address = address;
		w->decoded.generation = settled->generation;
		w->decoded.tier = number;
		w->decoded.deadline = deadline > 0xffffffffULL ? 0 : deadline;
		remember_decoded(w, l, c->mac_mask);
	} else if (decrypted && (!proven || j->reason == REASON_PROVEN)) {
		remember_decoded(w, l, c->mac_mask); /* only a wholly authentic address is cached */
	}
	if (j->reason == REASON_ISSUED || j->reason == REASON_PROVEN)
		j->tier = number;
	else if (j->reason == REASON_UNPROVEN && tier->unproven_default)
		j->tier = c->default_tier;
	else
		j->tier = c->fallback_tier;
	return 0;
}

/* Verifies the destination of work.packet into work.address_verdict, whose cluster is set. Always 0. */
static __always_inline int verify(struct work *w, const struct site *site, const struct lanes *l)
{
	struct config *settled = settings();
	struct address_verdict *j;
	const struct cluster *c;
	const struct epoch *e;
	struct wide address;

	if (!settled)
		return 0;
	j = &w->address_verdict;
	j->client = j->session = 0;
	j->single = 0;
	set_address_verdict(j, REASON_NOT_OURS, NONE);
	if (j->cluster >= MAX_CLUSTERS)
		return 0;
	c = &site->clusters[j->cluster];
	address = wide_of(w->packet.key.destination);
	if (c->version == 4)
		return verify4(j, c, address);
	if (address.hi == c->plain.hi && address.lo == c->plain.lo)
		return set_address_verdict(j, REASON_PLAIN, c->default_tier);
	e = epoch_of(c, address);
	if (!e->present)
		return set_address_verdict(j, REASON_UNKNOWN_EPOCH, c->fallback_tier);
	if (w->maybe_decoded && !is_proven(c, address) && verified_before(w, settled, e, address)) {
		take_fields(j, c, w->decoded.payload);
		return set_address_verdict(j, REASON_ISSUED, w->decoded.tier);
	}
	if (w->forged || has_wrong_tag(c, e, address))
		return set_address_verdict(j, REASON_BAD_TAG, c->fallback_tier);
	return verify_payload(w, site, settled, e, l);
}
