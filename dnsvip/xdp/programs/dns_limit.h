/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Response rate limiting with the verdicts of dnsvip/dns/protection/rrl.py, as one more worker has them. */
#pragma once
#include "dns_maps.h"
#include "take.h"

enum limit_verdict { LIMIT_SEND, LIMIT_SLIP, LIMIT_DROP };

/* Who gets which kind of answer: a /24 or /56, and a hash of the kind (image.py). */
struct account_key {
	__u64 prefix;
	__u64 kind;
};

struct account {
	__u64 full;   /* when, in unix nanoseconds */
	__u64 beyond; /* answers over the rate */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, ACCOUNTS);
	__type(key, struct account_key);
	__type(value, struct account);
} accounts SEC(".maps");

static __always_inline __u64 limited_prefix(const struct flow_key *key)
{
	if (key->version == 6)
		return (bpf_be64_to_cpu(key->source[0]) & ~0xffULL) | 6;
	return (bpf_be64_to_cpu(key->source[1]) & 0xffffff00) << 32 | 4;
}

/* The account of a packet's source for a kind of answer, a full one where it is new; NULL where there is no room. */
static __always_inline struct account *account_of(const struct dns_work *w, __u64 kind)
{
	struct account_key key = {.prefix = limited_prefix(&w->packet.key), .kind = kind};
	struct account *account = bpf_map_lookup_elem(&accounts, &key);

	if (!account) {
		struct account fresh = {};

		bpf_map_update_elem(&accounts, &key, &fresh, BPF_NOEXIST); /* another processor may be first */
		account = bpf_map_lookup_elem(&accounts, &key);
	}
	return account;
}

/* Takes an answer of a kind out of the account of a source. */
static __always_inline enum limit_verdict spend(const struct dns_work *w, const struct dns_config *c, __u64 kind)
{
	struct account *account = account_of(w, kind);
	__u64 beyond;

	if (!account || !take(&account->full, c->cost, c->burst, 0, w->unix_ns))
		return LIMIT_SEND;
	beyond = __sync_fetch_and_add(&account->beyond, 1) + 1;
	return c->slip && beyond % c->slip == 0 ? LIMIT_SLIP : LIMIT_DROP;
}
