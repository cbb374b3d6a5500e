/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What a client itself says in a proven address and in a flow label, as dnsvip/dispatcher/verify/claims.py
 * (dnsvip/address/README.md, from "Claims" on). A payload has claims in its lowest bits, those of labels last, 0 where
 * there are none, so that conditions and sessions find them as they find the fields above. */
#pragma once
#include "proof.h"
#include "routes.h"

static __always_inline __u32 *table_value(__u32 table, __u64 value)
{
	struct value_key key = {.table = table, .value = value};

	return bpf_map_lookup_elem(&values, &key);
}

/* Moves a payload above the bits of claims. */
static __always_inline void make_room(struct wide *payload, __u32 claim_bits)
{
	__u32 by = claim_bits & 63;

	if (!by)
		return;
	payload->hi = payload->hi << by | payload->lo >> (64 - by);
	payload->lo <<= by;
}

/* Whether the fields with tables of work.payload, from one number on, have values of these; 0 is "not set". (Global, as
 * the functions below, so that the kernel verifies it by itself, once.) */
__noinline int find_values(__u32 first, __u32 count)
{
	struct site *site = current_site();
	struct work *w = work();
	const struct fields *f;
	__u32 n;

	if (!site || !w || w->address_verdict.cluster >= MAX_CLUSTERS)
		return 0;
	f = &site->clusters[w->address_verdict.cluster].fields[w->carrier & 1];
#pragma clang loop unroll(disable)
	for (n = 0; n < MAX_ATTRIBUTES; n++) {
		if (n >= first + count)
			break;
		if (n < first)
			continue;
		w->value_key.table = f->attributes[n].table;
		w->value_key.value = bits_of(&f->attributes[n], w->payload);
		if (w->value_key.value && !bpf_map_lookup_elem(&values, &w->value_key))
			return 0;
	}
	return 1;
}

/* As `find_values`, also where there are no such fields. */
static __always_inline int are_known(__u32 first, __u32 count)
{
	return !count || find_values(first, count);
}

/* Reads the claims of the mode-1 address of work.packet, whose proof is right for work.slot, into work.payload. Returns
 * whether one of them is in no table. (Global, as above.) */
__noinline int read_claims(void)
{
	struct site *site = current_site();
	struct work *w = work();
	struct wide address, masked;
	const struct fields *f;
	struct cluster *c;
	struct sip s;
	__u32 bits;
	__u64 claims;

	if (!site || !w || w->address_verdict.cluster >= MAX_CLUSTERS)
		return 0;
	c = &site->clusters[w->address_verdict.cluster];
	f = &c->fields[IN_VIP];
	bits = (c->claim_bits - c->label_bits) & 31;
	if (!bits)
		return 0;
	address = wide_of(w->packet.key.destination);
	masked.hi = address.hi & c->claim_mask.hi;
	masked.lo = address.lo & c->claim_mask.lo;
	mac_start(&s, w, bpf_cpu_to_be64(address.hi ^ masked.hi),
		  bpf_cpu_to_be64((address.lo ^ masked.lo) & ~c->tag_mask));
	claims = shifted(masked, c->tag_bits & 127) ^ mac_end(s, w, USE_CLAIMS, w->slot) >> (64 - bits);
	w->payload.lo |= claims << (c->label_bits & 31);
	return !are_known(f->attribute_count, f->claim_count);
}

/* Reads the flow label of work.packet into work.payload, where it is right. Returns whether it is. */
__noinline int open_label(void)
{
	struct site *site = current_site();
	struct work *w = work();
	struct cluster *c;
	struct sip bound;
	__u32 masked, mac_bits, slot;
	__u64 wrong = 1;
	int n;

	if (!site || !w || w->address_verdict.cluster >= MAX_CLUSTERS)
		return 0;
	c = &site->clusters[w->address_verdict.cluster];
	mac_bits = c->label_mac_bits & 31;
	if (!find_key(w, c) || !c->slot_seconds || !mac_bits)
		return 0;
	mac_start(&bound, w, w->packet.key.destination[0], w->packet.key.destination[1]);
	masked = w->label >> mac_bits;
	for (n = 0; n < PROOF_SLOTS; n++) {
		slot = slot_of(w, c, n);
		wrong = mac_end(bound, w, USE_LABEL_MAC + masked, slot) >> (64 - mac_bits) ^
			(w->label & ((1U << mac_bits) - 1));
		if (!wrong)
			break;
	}
	if (wrong)
		return 0;
	w->payload.lo |= masked ^ mac_end(bound, w, USE_LABEL, slot) >> (64 - (c->label_bits & 31));
	return 1;
}

/* Reads the flow label of work.packet into work.payload. Returns whether it says something; where it does not, it is
 * counted: it is the host's own, or a middlebox's. (Apart from `open_label`, as one stack is too small for both and
 * `find_values`.) */
static __always_inline int read_label(struct work *w, const struct cluster *c, const struct fields *f)
{
	if (open_label() && are_known(f->attribute_count + f->claim_count, f->label_count))
		return 1;
	w->payload.lo &= ~0ULL << (c->label_bits & 31);
	count_side(SIDE_LABEL_IGNORED);
	return 0;
}
