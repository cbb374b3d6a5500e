/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Sums of 16-bit words in the order of memory (RFC 1071): those of the parts of a message add up to its checksum. */
#pragma once
#include "types.h"

static __always_inline __u64 sum_of(__u64 word)
{
	return (word & 0xffffffff) + (word >> 32);
}

static __always_inline __u64 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* A sum of bytes that begin at this offset (RFC 1071 section 2 (B)). */
static __always_inline __u64 sum_at(__u32 offset, __u64 sum)
{
	sum = fold(sum);
	return offset & 1 ? __builtin_bswap16(sum) : sum;
}
