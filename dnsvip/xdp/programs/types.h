/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What every other header needs: the kernel's headers, sizes, and integers of 128 bits. */
#pragma once
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <stddef.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#ifndef NULL
#define NULL ((void *)0)
#endif

enum absent {
	NONE = 0xffffffffu, /* no tier, pool, ring or server */
	NO_DSCP = 255,
	NO_PRIORITY = 255,
};

#define NANOSECONDS 1000000000ULL
#define AF_INET 2
#define AF_INET6 10

/* A map with one entry, as a global variable: programs have its address as a constant, where a look-up takes a dozen
 * instructions. It is mappable, so it starts at a page, and its cache lines are whole. */
#define ALONE(name) SEC(".data." name) __attribute__((aligned(64)))

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* Hides from clang where a number comes from, so that a bound the verifier has seen stays in force. */
#define opaque(x) asm volatile("" : "+r"(x))

/* An address or a payload as one number, most significant half first. Host byte order. */
struct wide {
	__u64 hi;
	__u64 lo;
};

/* So many of the highest of 64 bits: 0 to 64. (Shifts go from 0 to 63. Without a branch, as the verifier walks on from both
 * sides of each.) */
static __always_inline __u64 highest_bits(__u32 count)
{
	__u32 half = count / 2;

	return ~(~0ULL >> half >> (count - half));
}

/* The low 64 bits of a number shifted right by 0 to 127 bits. */
static __always_inline __u64 shifted(struct wide n, __u32 by)
{
	return by >= 64 ? n.hi >> (by & 63) : n.lo >> by | n.hi << 1 << (63 - by);
}
