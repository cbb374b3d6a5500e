/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Makes the address of a requester for the current slot, as dnsvip/dns/synthesis/issuer.py does: nonce by SipHash,
 * expiry, FF1 encryption, tag. */
#pragma once
#include "dns_maps.h"
#include "aes.h"
#include "ciphers.h"
#include "siphash.h"

#define ROUNDS 10
#define HASHED 26 /* bytes that a nonce is made of, before the slot */

/* A number of 64 bits shifted left by 0 to 127. */
static __always_inline struct wide wide_shl(__u64 n, __u32 by)
{
	struct wide out = {.hi = by >= 64 ? n << (by & 63) : by ? n >> (64 - by) : 0, .lo = by >= 64 ? 0 : n << (by & 63)};

	return out;
}

/* Puts the session of whom the 26 bytes stand for into the payload of the same. */
static __always_inline void fill_session(const struct maker *m, struct ready *r)
{
	struct wide part;
	struct sip s;

	sip_start(&s, m->session_key[0], m->session_key[1]);
	sip_word(&s, r->hashed[0]);
	sip_word(&s, r->hashed[1]);
	sip_word(&s, r->hashed[2]);
	part = wide_shl(sip_end(&s, (r->hashed[3] & 0xffff) | (__u64)HASHED << 56) & m->session_mask, m->session_shift);
	r->payload.hi |= part.hi;
	r->payload.lo |= part.lo;
}

/* The nonce's hash: SipHash of the 26 bytes and the slot, 8 bytes, most significant first. */
static __always_inline __u64 nonce_hash(const struct maker *m, const struct ready *r, __u64 slot)
{
	__u64 moment = bpf_cpu_to_be64(slot);
	struct sip s;

	moment = __le64_to_cpu(moment);
	sip_start(&s, m->nonce_key[0], m->nonce_key[1]);
	sip_word(&s, r->hashed[0]);
	sip_word(&s, r->hashed[1]);
	sip_word(&s, r->hashed[2]);
	sip_word(&s, (r->hashed[3] & 0xffff) | moment << 16);
	return sip_end(&s, moment >> 48 | (__u64)(HASHED + 8) << 56);
}

/* Units after the epoch's activation, rounded up, so that an address of the slot's last moment outlives its TTL. */
static __always_inline __u64 expiry_of(const struct maker *m, __u64 slot)
{
	__u64 top = m->expiry_bits >= 64 ? ~0ULL : (1ULL << (m->expiry_bits & 63)) - 1;
	__s64 needed = (slot + 1) * m->renew + m->ttl - m->activated;
	__u64 units;

	if (needed <= 0 || !m->expiry_unit)
		return top < 1 ? top : 1;
	units = ((__u64)needed + m->expiry_unit - 1) / m->expiry_unit;
	return units < top ? units : top;
}

/* As `encrypted`, of work.payload, by tables; 1 where the maker's key is not used by these. (Global, as below.) */
__noinline int encrypt_by_tables(__u32 number)
{
	const char *table = aes_table();
	struct schedule *schedule;
	__u32 zero = 0, right, bytes, cipher;
	struct dns_work *w;
	struct maker *m;
	__u64 a, b, y;
	int round;

	w = bpf_map_lookup_elem(&dns_works, &zero);
	m = bpf_map_lookup_elem(&makers, &number);
	if (!w || !m || m->bits > 80)
		return 1;
	cipher = m->cipher;
	schedule = bpf_map_lookup_elem(&schedules, &cipher);
	if (!schedule || !schedule->present)
		return 1;
	right = m->bits - m->bits / 2;
	bytes = (right + 7) / 8;
	w->masks[0] = (1ULL << (right & 63)) - 1;
	w->masks[1] = (1ULL << (m->bits / 2 & 63)) - 1;
	a = shifted(w->payload, right) & w->masks[1];
	b = w->payload.lo & w->masks[0];
	first_half(&w->half, table, schedule->words, m->mid.hi);
#pragma clang loop unroll(disable)
	for (round = 0; round < ROUNDS; round++) {
		opaque(w); /* as `key` and `h` in encrypted_middle */
		y = encrypted_middle(&w->half, table, schedule->words, m->mid.lo ^ (__u64)round << 8 * bytes ^ b,
				     bytes > 4);
		y = (a + y) & w->masks[!(round & 1)];
		a = b;
		b = y;
	}
	w->payload.lo = a << right | b;
	w->payload.hi = right ? a >> (64 - right) : 0;
	return 0;
}

/* FF1 encryption (NIST SP 800-38G Rev. 1, algorithm 7), the inverse of ff1.h; returns whether there is such a cipher. */
static __always_inline int encrypted(struct dns_work *w, const struct maker *m, struct wide *payload)
{
	struct bpf_dynptr source, destination;
	struct bpf_crypto_ctx *context;
	__u32 number = m->cipher, bits = m->bits, left, right, bytes;
	struct cipher *cipher = bpf_map_lookup_elem(&ciphers, &number);
	__u64 a, b, y, mask_a, mask_b;
	int round;

	if (!cipher || bits > 80)
		return 0;
	context = cipher->context;
	if (!context)
		return 0;
	bpf_dynptr_from_mem(w->block, sizeof(w->block), 0, &source);
	bpf_dynptr_from_mem(w->stream, sizeof(w->stream), 0, &destination);
	left = bits / 2;
	right = bits - left;
	bytes = (right + 7) / 8;
	mask_a = (1ULL << right) - 1;
	mask_b = (1ULL << left) - 1;
	a = shifted(*payload, right) & mask_b;
	b = payload->lo & mask_a;
	w->block[0] = bpf_cpu_to_be64(m->mid.hi);
	for (round = 0; round < ROUNDS; round++) {
		w->block[1] = bpf_cpu_to_be64(m->mid.lo ^ (__u64)round << 8 * bytes ^ b);
		if (bpf_crypto_encrypt(context, &source, &destination, NULL))
			return 0;
		y = bpf_be64_to_cpu(w->stream[0]);
		if (bytes > 4)
			y = y << 32 | bpf_be64_to_cpu(w->stream[1]) >> 32;
		y = (a + y) & (round & 1 ? mask_a : mask_b);
		a = b;
		b = y;
	}
	payload->lo = a << right | b;
	payload->hi = right ? a >> (64 - right) : 0;
	return 1;
}

/* Whether an address must never be issued (suffix.py, is_reserved): the server then takes another nonce. */
static __always_inline int is_reserved(const struct maker *m, struct wide n)
{
	struct wide suffix = {.hi = n.hi & m->suffix.hi, .lo = n.lo & m->suffix.lo};

	return (n.hi == m->plain.hi && n.lo == m->plain.lo) || !(suffix.hi | suffix.lo) || !n.lo ||
	       (n.lo >= 0x02005efffe000000ULL && n.lo <= 0x02005efffeffffffULL) ||
	       (n.lo >= 0xfdffffffffffff80ULL && n.lo <= 0xfdffffffffffffffULL) ||
	       (~m->suffix.lo | m->suffix.hi && suffix.hi == m->suffix.hi && (suffix.lo | 0x7f) == m->suffix.lo);
}

/* As `check_of` in dnsvip/dns/io/xdp/image.py. */
static __always_inline __u32 check_of(const struct made *made)
{
	__u64 period = (__u64)made->renew << 32 | made->since;
	__u64 mixed = made->address[0] * 0x9e3779b97f4a7c15ULL ^ (made->address[1] + period) * 0xbf58476d1ce4e5b9ULL ^
		      ((__u64)made->cell << 8 | made->scope) * 0x94d049bb133111ebULL ^ made->owner;

	return mixed ^ mixed >> 32;
}

/* Gets the payload of a requester's address for the current slot, by the maker with a number, into work.payload, and its slot
 * into work.slot; returns whether it could. (Global, as the next one, so that the kernel verifies it by itself, once.) */
__noinline int fill_payload(struct ready *r, __u32 number, __u32 generation)
{
	struct wide payload, part;
	struct dns_work *w;
	struct maker *m;
	__u32 zero = 0;

	w = bpf_map_lookup_elem(&dns_works, &zero);
	m = bpf_map_lookup_elem(&makers, &number);
	if (!w || !m || !r || m->generation != generation || !m->renew)
		return 0;
	w->slot = w->unix_seconds / m->renew;
	payload = r->payload;
	if (m->nonce_bits) {
		__u64 mask = m->nonce_bits >= 64 ? ~0ULL : (1ULL << (m->nonce_bits & 63)) - 1;

		part = wide_shl(nonce_hash(m, r, w->slot) & mask, m->nonce_shift);
		payload.hi |= part.hi;
		payload.lo |= part.lo;
	}
	if (m->expiry_bits) {
		part = wide_shl(expiry_of(m, w->slot), m->expiry_shift);
		payload.hi |= part.hi;
		payload.lo |= part.lo;
	}
	w->payload = payload;
	return 1;
}

/* Makes the address of work.payload, which is encrypted where `is_encrypted`, in the requester's record; as above. */
__noinline int make_address(struct ready *r, __u32 number, __u64 owner, __u32 is_encrypted)
{
	struct wide payload, part;
	struct dns_work *w;
	struct maker *m;
	struct made made;
	__u32 zero = 0;

	w = bpf_map_lookup_elem(&dns_works, &zero);
	m = bpf_map_lookup_elem(&makers, &number);
	if (!w || !m || !r)
		return 0;
	payload = w->payload;
	if (!is_encrypted && !encrypted(w, m, &payload))
		return 0;
	part = wide_shl(payload.lo, m->payload_shift);
	part.hi |= wide_shl(payload.hi, m->payload_shift).lo;
	part.hi |= m->base.hi;
	part.lo |= m->base.lo;
	part.lo |= sip_address(m->tag_key, part) >> ((64 - m->tag_bits) & 63);
	if (is_reserved(m, part))
		return 0;
	made = r->made;
	made.address[0] = bpf_cpu_to_be64(part.hi);
	made.address[1] = bpf_cpu_to_be64(part.lo);
	made.since = w->slot * m->renew;
	made.owner = owner; /* where another requester has got the record meanwhile, the check is wrong for that one */
	r->made.address[0] = made.address[0];
	r->made.address[1] = made.address[1];
	r->made.since = made.since;
	r->made.check = check_of(&made);
	return 1;
}

/* Makes the address of a requester for the current slot, by the maker with a number, in its record; returns whether it
 * could. Three calls one after the other, as the stack is too small for them in one another. */
static __always_inline int seal(struct ready *r, __u32 number, __u32 generation, __u64 owner)
{
	return fill_payload(r, number, generation) && make_address(r, number, owner, !encrypt_by_tables(number));
}
