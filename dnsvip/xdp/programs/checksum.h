/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Incremental checksum updates (RFC 1624), as dispatcher/egress/rewrite.py: arithmetic modulo 65535. */
#pragma once
#include "frame.h"

/* The sum of the 16-bit words of 8 bytes. */
static __always_inline __u32 words_of(__be64 bytes)
{
	__u64 n = bpf_be64_to_cpu(bytes);

	return (n >> 48) + (n >> 32 & 0xffff) + (n >> 16 & 0xffff) + (n & 0xffff);
}

/* The checksum after the words it covers shrank by `difference` (old minus new, a sum of at most 32 words). */
static __always_inline __u32 adjusted(__u32 checksum, __s32 difference)
{
	return (__u32)((__s32)checksum + difference + 65535 * 64) % 65535;
}

/* Writes an address; returns old minus new. */
static __always_inline __s32 put_address(__be64 *at, const __be64 *address)
{
	__s32 difference = (__s32)(words_of(at[0]) + words_of(at[1])) -
			   (__s32)(words_of(address[0]) + words_of(address[1]));

	at[0] = address[0];
	at[1] = address[1];
	return difference;
}

static __always_inline __s32 put_word(__be16 *at, __be16 word)
{
	__s32 difference = (__s32)bpf_ntohs(*at) - (__s32)bpf_ntohs(word);

	*at = word;
	return difference;
}

/* The Internet checksum (RFC 1071) from a sum of bpf_csum_diff, in network byte order. */
static __always_inline __u16 folded(__s64 sum)
{
	__u64 n = (__u32)sum;

	n = (n & 0xffff) + (n >> 16);
	n = (n & 0xffff) + (n >> 16);
	return ~n;
}
