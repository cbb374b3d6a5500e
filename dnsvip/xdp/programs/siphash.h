/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* SipHash-2-4 (Aumasson and Bernstein, 2012) over messages of whole and partial 64-bit words.
 * Words are the message's bytes read as little-endian numbers; the key is two such words. */
#pragma once
#include "types.h"

struct sip {
	__u64 v0, v1, v2, v3;
};

#define rotated(x, by) ((x) << (by) | (x) >> (64 - (by)))

static __always_inline void sip_round(struct sip *s)
{
	s->v0 += s->v1;
	s->v1 = rotated(s->v1, 13) ^ s->v0;
	s->v0 = rotated(s->v0, 32);
	s->v2 += s->v3;
	s->v3 = rotated(s->v3, 16) ^ s->v2;
	s->v0 += s->v3;
	s->v3 = rotated(s->v3, 21) ^ s->v0;
	s->v2 += s->v1;
	s->v1 = rotated(s->v1, 17) ^ s->v2;
	s->v2 = rotated(s->v2, 32);
}

/* Not unrolled: code that runs once is fetched from memory, which takes longer than executing it. */
static __always_inline void sip_rounds(struct sip *s, int count)
{
#pragma clang loop unroll(disable)
	for (int n = 0; n < count; n++)
		sip_round(s);
}

static __always_inline void sip_start(struct sip *s, __u64 k0, __u64 k1)
{
	s->v0 = k0 ^ 0x736f6d6570736575ULL;
	s->v1 = k1 ^ 0x646f72616e646f6dULL;
	s->v2 = k0 ^ 0x6c7967656e657261ULL;
	s->v3 = k1 ^ 0x7465646279746573ULL;
}

static __always_inline void sip_word(struct sip *s, __u64 word)
{
	s->v3 ^= word;
	sip_rounds(s, 2);
	s->v0 ^= word;
}

/* `last`: the bytes after the last whole word, with the message's length modulo 256 in the top byte. */
static __always_inline __u64 sip_end(struct sip *s, __u64 last)
{
	sip_word(s, last);
	s->v2 ^= 0xff;
	sip_rounds(s, 4);
	return s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

/* The tag of an address, 16 bytes. */
static __always_inline __u64 sip_address(const __u64 *key, struct wide address)
{
	struct sip s;

	sip_start(&s, key[0], key[1]);
	sip_word(&s, bpf_cpu_to_be64(address.hi));
	sip_word(&s, bpf_cpu_to_be64(address.lo));
	return sip_end(&s, 16ULL << 56);
}
