/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* FF1 decryption (NIST SP 800-38G Rev. 1, algorithm 8), radix 2, empty tweak, 20 to 80 bits.
 * The constant block P was encrypted when the key was set up, so a round is one AES block: ten in all. */
#pragma once
#include "work.h"
#include "ciphers.h"

#define ROUNDS 10

/* As `decrypt`, by tables; 1 where the key is not used by these. */
__noinline int decrypt_by_tables(void)
{
	const char *table = aes_table();
	struct work *w = work();
	struct schedule *schedule;
	__u32 cipher, left, right, bytes;
	__u64 a, b, y;
	int round;

	if (!w)
		return 1;
	cipher = w->cipher;
	schedule = bpf_map_lookup_elem(&schedules, &cipher);
	if (!schedule || !schedule->present)
		return 1;
	left = w->bits / 2;
	right = w->bits - left;
	bytes = (right + 7) / 8;
	w->masks[0] = (1ULL << (left & 63)) - 1;
	w->masks[1] = (1ULL << (right & 63)) - 1;
	a = shifted(w->decoded.payload, right) & w->masks[0];
	b = w->decoded.payload.lo & w->masks[1];
	first_half(&w->half, table, schedule->words, w->mid.hi);
#pragma clang loop unroll(disable)
	for (round = ROUNDS - 1; round >= 0; round--) {
		opaque(w); /* as `key` and `h` in encrypted_middle */
		/* d = 8 bytes of the block, whose last 4 are enough, or 12 */
		y = encrypted_middle(&w->half, table, schedule->words, w->mid.lo ^ (__u64)round << 8 * bytes ^ a,
				     bytes > 4);
		y = (b - y) & w->masks[round & 1];
		b = a;
		a = y;
	}
	w->payload.lo = a << right | b;
	w->payload.hi = right ? a >> (64 - right) : 0;
	return 0;
}

/* Decrypts work.decoded.payload into work.payload. Returns 0, or a negative number where there is no such cipher. */
__noinline int decrypt(void)
{
	struct bpf_dynptr source, destination;
	struct bpf_crypto_ctx *context;
	struct work *w = work();
	struct cipher *entry;
	__u32 cipher, bits, left, right, bytes;
	__u64 a, b, y, mask_a, mask_b, block_lo;
	int round;

	if (!w)
		return -1;
	cipher = w->cipher;
	bits = w->bits;
	entry = bpf_map_lookup_elem(&ciphers, &cipher);
	if (!entry || bits > 80)
		return -1;
	context = entry->context;
	if (!context)
		return -1;
	bpf_dynptr_from_mem(w->block, sizeof(w->block), 0, &source);
	bpf_dynptr_from_mem(w->stream, sizeof(w->stream), 0, &destination);
	left = bits / 2;
	right = bits - left; /* at most 40, so halves and the round number fit the block's low 64 bits */
	bytes = (right + 7) / 8;
	mask_a = (1ULL << right) - 1;
	mask_b = (1ULL << left) - 1;
	a = shifted(w->decoded.payload, right) & mask_b;
	b = w->decoded.payload.lo & mask_a;
	w->block[0] = bpf_cpu_to_be64(w->mid.hi);
	for (round = ROUNDS - 1; round >= 0; round--) {
		block_lo = w->mid.lo ^ (__u64)round << 8 * bytes ^ a;
		w->block[1] = bpf_cpu_to_be64(block_lo);
		if (bpf_crypto_encrypt(context, &source, &destination, NULL))
			return -1;
		y = bpf_be64_to_cpu(w->stream[0]); /* d = 8 bytes of the block; 12 for halves of 33 bits and more */
		if (bytes > 4)
			y = y << 32 | bpf_be64_to_cpu(w->stream[1]) >> 32;
		y = (b - y) & (round & 1 ? mask_a : mask_b);
		b = a;
		a = y;
	}
	w->payload.lo = a << right | b;
	w->payload.hi = right ? a >> (64 - right) : 0;
	return 0;
}
