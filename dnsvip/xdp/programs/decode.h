/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Verifies a destination address and decides whether it may open a flow, as dnsvip/dispatcher/verify does, in the
 * same order (dnsvip/address/README.md, "Decoding"). A forged address costs one SipHash. */
#pragma once
#include "guesses.h"
#include "networks.h"
#include "payload.h"

static __always_inline int has_prefix_of(const struct cluster *c, const struct flow_key *key)
{
	return !((c->present ^ 1) | (c->version ^ key->version) | ((key->destination[0] ^ c->prefix[0]) & c->mask[0]) |
		 ((key->destination[1] ^ c->prefix[1]) & c->mask[1])); /* one branch, as in is_same */
}

/* Whether a packet to a cluster comes from no client: from no host, or from an address of the cluster. */
static __always_inline int is_nobodys(const struct cluster *c, const struct flow_key *key)
{
	return is_martian(key) || !(((key->source[0] ^ c->prefix[0]) & c->mask[0]) |
				    ((key->source[1] ^ c->prefix[1]) & c->mask[1]));
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

static __always_inline __u32 slot_in(const struct cluster *c, struct wide address)
{
	return shifted(address, c->epoch_shift & 127) & (EPOCH_SLOTS - 1);
}

/* Whether the tag of an address is wrong; of a proven one, its part that is not the proof. */
static __always_inline int has_wrong_tag(const struct cluster *c, const struct epoch *e, struct wide address)
{
	struct wide body = {.hi = address.hi & c->mac_mask.hi, .lo = address.lo & c->mac_mask.lo};
	__u64 wrong = address.lo ^ sip_address(e->mac_key, body) >> (64 - c->tag_bits);

	if (is_proven(c, address))
		return !!(wrong & c->cheap_mask);
	return !!((wrong & c->tag_mask) | (address.hi & c->claim_mask.hi) | (address.lo & c->claim_mask.lo));
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
	e = &c->epochs[slot_in(c, address)];
	return !e->present || has_wrong_tag(c, e, address);
}

/* The tier of an authentic payload, where the client's record comes first; NONE where the payload is invalid. */
static __noinline __u32 payload_tier(const struct work *w, const struct cluster *c, const struct fields *f,
				     const struct client *client)
{
	struct wide payload = w->payload;
	__u32 tier = c->default_tier;

	if (f->tier.bits) {
		__u32 *meaning = table_value(f->tier.table, bits_of(&f->tier, payload));

		tier = meaning ? *meaning : NONE;
	}
	if (!are_known(0, f->attribute_count))
		return NONE;
	return tier != NONE && client && client->tier != NONE ? client->tier : tier;
}

/* The first second at which an address has expired; the maximum where it lives as long as its epoch. */
static __always_inline __u64 deadline_of(const struct cluster *c, const struct fields *f, const struct epoch *e,
					 struct wide payload)
{
	__u64 expiry = bits_of(&f->expiry, payload), never = ~0ULL;
	__u64 forever = f->expiry.bits < 64 ? (1ULL << (f->expiry.bits & 63)) - 1 : never;

	if (!f->expiry.bits || !e->activated_at || expiry == forever || expiry >> 32)
		return never;
	return e->activated_at + expiry * c->expiry_unit;
}

/* Whether a proven address has opened another connection already: of another flow, or of one that is known to have
 * ended or been answered where the packet is a SYN. */
static __always_inline int is_replayed(struct work *w)
{
	const struct flow_key *key = &w->packet.key;
	struct used *use;

	w->use.address[0] = key->destination[0];
	w->use.address[1] = key->destination[1];
	use = bpf_map_lookup_elem(&uses, &w->use);
	return use && use->until >= w->seconds &&
	       (w->again == AGAIN_ANSWERED || (use->ended && opens(&w->packet)) ||
		__builtin_memcmp(&use->key, key, sizeof(*key)));
}

static __always_inline int needs_home(const struct tier *tier, const struct client *client)
{
	return tier->networks_only || (client && client->networks_only);
}

/* Steps 7 and 8: the client's state, its network, and its proof where one is required. `number`: the tier's, or NONE
 * where its addresses are everybody's. */
static __noinline __u8 check_client(struct work *w, const struct tier *tier,
				     const struct client *client, __u32 number, int proven)
{
	if (client && !client->enabled)
		return REASON_REVOKED;
	if (!proven) {
		if (tier->require_proof || (client && client->proof_required))
			return REASON_UNPROVEN;
		if (number == NONE || !needs_home(tier, client))
			return REASON_ISSUED;
		return is_at_home(number) ? REASON_ISSUED : REASON_UNPROVEN;
	}
	if (!client)
		return REASON_BAD_PROOF;
	w->address_verdict.bound = client->bind_address;
	if (!w->running && has_guessed_enough())
		return REASON_BAD_PROOF;
	w->address_verdict.unproven = !proves();
	if (w->address_verdict.unproven && !w->running) {
		count_guess();
		return REASON_BAD_PROOF;
	}
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

/* An address of an IPv4 cluster. That of the default tier's class says as little as the plain one. */
static __noinline int verify4(struct address_verdict *j, const struct site *site, const struct cluster *c,
			      struct wide address)
{
	const struct tier *tier;
	__u32 *meaning, number;

	if (address.lo == c->plain.lo) {
		set_address_verdict(j, REASON_PLAIN, c->default_tier);
		identify_source(0);
		return 0;
	}
	meaning = table_value(c->fields[IN_VIP].tier.table, address.lo);
	number = meaning ? *meaning : NONE;
	opaque(number);
	if (number >= MAX_TIERS)
		return set_address_verdict(j, REASON_BAD_PAYLOAD, NONE);
	set_address_verdict(j, REASON_CLASS, number);
	if (number == c->default_tier) {
		identify_source(0);
		return 0;
	}
	tier = &site->tiers[number];
	if (!tier->networks_only || is_at_home(number))
		return 0;
	set_address_verdict(j, REASON_UNPROVEN, tier->unproven_default ? c->default_tier : NONE);
	identify_source(0);
	return 0;
}

/* Whether an issued address was verified before, tag included, and still means the same. */
static __always_inline int verified_before(struct work *w, const struct config *settled, const struct epoch *e,
					 struct wide address)
{
	struct lanes *l = lanes_now();

	w->decoded_hash = w->address_hash;
	return l && decoded_before(w, l, address, whole, e->identity) &&
	       w->decoded.generation == settled->generation &&
	       (!w->decoded.deadline || w->seconds < w->decoded.deadline);
}

static __always_inline void take_fields(struct address_verdict *j, const struct fields *f, struct wide payload)
{
	if (f->client.bits)
		j->client = bits_of(&f->client, payload);
	if (f->session.bits)
		j->session = bits_of(&f->session, payload);
}

/* Whether the flow label of work.packet may say something: of a flow's first packet, where the payload names a client. */
static __always_inline int has_label(const struct work *w, const struct cluster *c)
{
	return w->label && c->label_mac_bits && w->address_verdict.client && !w->running && w->carrier == IN_VIP;
}

static __always_inline struct client *client_of(const struct address_verdict *j)
{
	__u64 id = j->client;

	return id ? bpf_map_lookup_elem(&clients, &id) : NULL;
}

/* Makes the flow of work.packet, to an issued address that the cache vouches for, what its label says. Always 0.
 * (Global, as the function below, so that the kernel verifies it by itself, once.) */
__noinline int hear_label(void)
{
	struct site *site = current_site();
	struct work *w = work();
	const struct cluster *c;
	const struct fields *f;
	struct client *client;

	if (!site || !w || w->address_verdict.cluster >= MAX_CLUSTERS)
		return 0;
	c = &site->clusters[w->address_verdict.cluster];
	f = &c->fields[IN_VIP];
	client = client_of(&w->address_verdict);
	w->payload = w->decoded.payload;
	speak_for(w, client);
	if (!read_label(w, c, f))
		return 0;
	take_fields(&w->address_verdict, f, w->payload);
	find_route(client ? client->pool : NO_POOL, EVIDENCE_ISSUED);
	return 0;
}

/* Rejects the authentic address of work.carrier. Its payload is remembered, so that it costs one decryption however often
 * it comes. Always 0. (Global, so that the kernel verifies it by itself, once.) */
__noinline int reject_payload(__u32 reason, __u32 tier, __u32 proven)
{
	struct site *site = current_site();
	struct lanes *l = lanes_now();
	struct work *w = work();

	if (!site || !l || !w || w->address_verdict.cluster >= MAX_CLUSTERS)
		return 0;
	if (w->decrypted && !proven)
		remember_decoded(w, l,
				 w->carrier == IN_SOURCE ? whole : site->clusters[w->address_verdict.cluster].mac_mask);
	return set_address_verdict(&w->address_verdict, reason, tier);
}

/* Judges the payload of an authentic address of work.carrier, whose key is in an epoch slot of its cluster, into
 * work.address_verdict. Always 0. */
__noinline int judge(__u32 slot, __u32 proven)
{
	struct config *settled = settings();
	struct site *site = current_site();
	struct lanes *l = lanes_now();
	struct work *w = work();
	struct address_verdict *j;
	const struct fields *f;
	const struct cluster *c;
	const struct epoch *e;
	const struct tier *tier;
	struct client *client;
	int everybodys, vouched, accepted, lasts, says;
	__u32 number, evidence, pool;

	if (!settled || !site || !l || !w || w->address_verdict.cluster >= MAX_CLUSTERS)
		return 0;
	j = &w->address_verdict;
	c = &site->clusters[j->cluster];
	f = &c->fields[w->carrier & 1];
	e = w->carrier == IN_SOURCE ? &c->own.epochs[slot & 3] : &c->epochs[slot & 3];
	take_fields(j, f, w->payload);
	client = client_of(j);
	number = payload_tier(w, c, f, client);
	if (number >= MAX_TIERS)
		return reject_payload(REASON_BAD_PAYLOAD, c->fallback_tier, proven);
	if (client && client->ended)
		return reject_payload(REASON_REVOKED, NONE, proven);
	w->deadline = deadline_of(c, f, e, w->payload);
	if (w->seconds >= w->deadline && !(w->running && (__u64)w->seconds - c->session_seconds < w->deadline))
		return reject_payload(REASON_EXPIRED, c->expired_tier, proven);
	tier = &site->tiers[number];
	everybodys = !j->client && number == c->default_tier;
	speak_for(w, client);
	j->reason = check_client(w, tier, client, everybodys ? NONE : number, proven);
	vouched = j->reason == REASON_PROVEN && !j->unproven; /* by its client */
	if (vouched && c->claim_bits != c->label_bits) {
		int unknown = read_claims();

		take_fields(j, f, w->payload);
		if (unknown)
			return set_address_verdict(j, REASON_BAD_PAYLOAD, c->fallback_tier);
	}
	accepted = j->reason == REASON_ISSUED || j->reason == REASON_PROVEN;
	j->tier = accepted ? number : j->reason == REASON_UNPROVEN && tier->unproven_default ? c->default_tier : c->fallback_tier;
	pool = client ? client->pool : NO_POOL;
	evidence = w->running ? EVIDENCE_RESUMED : j->reason == REASON_PROVEN ? EVIDENCE_PROVEN :
		   w->carrier == IN_SOURCE ? EVIDENCE_SOURCE : EVIDENCE_ISSUED;
	lasts = evidence == EVIDENCE_ISSUED && accepted && !(everybodys ? c->identify_source : needs_home(tier, client));
	if (lasts) { /* from whichever source, and whatever the label */
		find_route(pool, evidence);
		w->decoded.address = wide_of(w->packet.key.destination);
		w->decoded.generation = settled->generation;
		w->decoded.tier = number;
		w->decoded.route = j->route;
		w->decoded.deadline = w->deadline > 0xffffffffULL ? 0 : w->deadline;
	}
	if (lasts || (w->decrypted && (!proven || vouched))) /* only what is wholly authentic */
		remember_decoded(w, l, w->carrier == IN_SOURCE ? whole : c->mac_mask);
	if (!accepted) {
		if (j->reason == REASON_UNPROVEN)
			identify_source(!j->client);
		return 0;
	}
	says = has_label(w, c) && read_label(w, c, f);
	if (says)
		take_fields(j, f, w->payload);
	if (says || !lasts)
		find_route(pool, evidence);
	if (w->running)
		j->reason = REASON_RESUMED;
	else if (w->carrier == IN_SOURCE)
		j->reason = REASON_SOURCE;
	if (everybodys)
		identify_source(1);
	return 0;
}

/* Verifies the plain VIP that work.packet goes to: the client's own address may say who it is, and else the network
 * that it is in. */
static __always_inline int verify_plain(struct work *w, const struct cluster *c)
{
	int slot = c->own.present ? own_slot() : -1;

	if (slot >= 0 && is_open(w, open_own(slot)))
		return judge(slot, 0);
	w->carrier = IN_VIP;
	set_address_verdict(&w->address_verdict, REASON_PLAIN, c->default_tier);
	identify_source(0);
	return 0;
}

/* Verifies the destination of work.packet into work.address_verdict, whose cluster is set. Always 0. */
static __always_inline int verify(struct work *w, const struct site *site)
{
	struct config *settled = settings();
	struct address_verdict *j;
	const struct cluster *c;
	const struct epoch *e;
	struct wide address;
	__u32 slot;

	if (!settled)
		return 0;
	j = &w->address_verdict;
	j->client = j->session = 0;
	j->single = j->unproven = j->reserved = j->routed = 0;
	w->network_known = 0;
	w->carrier = IN_VIP;
	set_address_verdict(j, REASON_NOT_OURS, NONE);
	if (j->cluster >= MAX_CLUSTERS)
		return 0;
	c = &site->clusters[j->cluster];
	address = wide_of(w->packet.key.destination);
	if (c->version == 4)
		return verify4(j, site, c, address);
	if (!c->resume_interval)
		w->running = 0;
	if (address.hi == c->plain.hi && address.lo == c->plain.lo)
		return verify_plain(w, c);
	slot = slot_in(c, address);
	e = &c->epochs[slot];
	if (!e->present)
		return set_address_verdict(j, REASON_UNKNOWN_EPOCH, c->fallback_tier);
	if (w->maybe_decoded && !w->running && !is_proven(c, address) && verified_before(w, settled, e, address)) {
		take_fields(j, &c->fields[IN_VIP], w->decoded.payload);
		j->route = w->decoded.route;
		j->routed = 1;
		set_address_verdict(j, REASON_ISSUED, w->decoded.tier);
		return has_label(w, c) ? hear_label() : 0;
	}
	if (w->forged || has_wrong_tag(c, e, address))
		return set_address_verdict(j, REASON_BAD_TAG, c->fallback_tier);
	if (!is_open(w, open_vip(slot, is_proven(c, address))))
		return set_address_verdict(j, REASON_UNKNOWN_EPOCH, c->fallback_tier); /* its cipher is not set up */
	return judge(slot, is_proven(c, address));
}
