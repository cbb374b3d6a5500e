/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Opens the payload of an authentic address: of the encoded VIP that a packet goes to, or of the client's own address
 * that it comes from (dnsvip/address/README.md, "Keys" and "Source"). The functions are global, so that the kernel
 * verifies each by itself, once. */
#pragma once
#include "cache.h"
#include "claims.h"
#include "ff1.h"

static const struct wide whole = {~0ULL, ~0ULL};

#define ENCRYPTED 2

/* Opens the payload of `bits` bits above the lowest ones of an address into work.payload where it is cached; else returns
 * ENCRYPTED. `mask`: the bits of the address that do not come with each packet anew. */
static __always_inline int open_payload(struct work *w, const struct lanes *l, const struct epoch *e, struct wide address, struct wide mask,
					__u32 below, __u32 bits, __u32 room)
{
	struct decoded *d = &w->decoded;

	w->decrypted = 0;
	if (decoded_before(w, l, address, mask, e->identity)) {
		w->payload = d->payload;
		return 1;
	}
	d->payload.lo = shifted(address, below);
	d->payload.hi = below < 64 ? address.hi >> (below & 63) : 0;
	if (bits < 64) {
		d->payload.lo &= (1ULL << (bits & 63)) - 1;
		d->payload.hi = 0;
	} else {
		d->payload.hi &= (1ULL << (bits & 63)) - 1;
	}
	w->cipher = e->cipher;
	w->mid = e->mid;
	w->bits = bits;
	w->room = room;
	d->address.hi = address.hi & mask.hi;
	d->address.lo = address.lo & mask.lo;
	d->identity = e->identity;
	d->generation = 0;
	d->tier = NONE;
	d->deadline = 0;
	d->route.pool = NO_POOL;
	d->route.dscp = NO_DSCP;
	d->route.rule = 0;
	return ENCRYPTED;
}

/* The second half of opening a payload, apart from the first as one stack is too small for both: decrypts it where the
 * first has found it ENCRYPTED. Returns whether it is open. */
static __always_inline int is_open(struct work *w, int found)
{
	if (found != ENCRYPTED)
		return found;
	count_side(SIDE_DECRYPTED);
	if (decrypt_by_tables() && decrypt())
		return 0;
	make_room(&w->payload, w->room);
	w->decrypted = 1;
	w->decoded.payload = w->payload;
	return 1;
}

/* Opens the payload of work.packet's destination, whose key is in an epoch slot of its cluster, as `is_open` takes it. */
__noinline int open_vip(__u32 slot, __u32 proven)
{
	struct site *site = current_site();
	struct lanes *l = lanes_now();
	struct work *w = work();
	const struct cluster *c;
	struct wide address;

	if (!site || !l || !w || w->address_verdict.cluster >= MAX_CLUSTERS)
		return 0;
	c = &site->clusters[w->address_verdict.cluster];
	address = wide_of(w->packet.key.destination);
	w->carrier = IN_VIP;
	w->decoded_hash = proven ? body_hash(l, address, c->mac_mask) : w->address_hash;
	return open_payload(w, l, &c->epochs[slot & 3], address, c->mac_mask,
			    (c->tag_bits + c->claim_bits - c->label_bits) & 127, c->payload_bits, c->claim_bits);
}

/* The epoch slot of work.packet's source where that is authentic for its cluster; negative where it is not, and so says
 * nothing. */
__noinline int own_slot(void)
{
	struct site *site = current_site();
	struct work *w = work();
	const struct epoch *e;
	const struct own *o;
	struct wide address, body;
	__u32 slot, tag_bits;

	if (!site || !w || w->address_verdict.cluster >= MAX_CLUSTERS)
		return -1;
	o = &site->clusters[w->address_verdict.cluster].own;
	address = wide_of(w->packet.key.source);
	slot = address.lo >> 61;
	tag_bits = o->tag_bits & 63;
	if (!o->present || slot >= EPOCH_SLOTS || !tag_bits) /* the first bit is 0 */
		return -1;
	e = &o->epochs[slot & 3];
	body.hi = address.hi;
	body.lo = address.lo >> tag_bits << tag_bits;
	if (!e->present || (address.lo ^ body.lo) != sip_address(e->mac_key, body) >> (64 - tag_bits))
		return -1;
	return slot;
}

/* Opens the payload of work.packet's source, whose key is in an epoch slot of its cluster, as `is_open` takes it. */
__noinline int open_own(__u32 slot)
{
	struct site *site = current_site();
	struct lanes *l = lanes_now();
	struct work *w = work();
	struct wide address;
	const struct own *o;

	if (!site || !l || !w || w->address_verdict.cluster >= MAX_CLUSTERS)
		return 0;
	o = &site->clusters[w->address_verdict.cluster].own;
	address = wide_of(w->packet.key.source);
	w->carrier = IN_SOURCE;
	w->decoded_hash = body_hash(l, address, whole);
	return open_payload(w, l, &o->epochs[slot & 3], address, whole, o->tag_bits & 63, o->payload_bits, 0);
}
