/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Answers frequent DNS questions in the kernel: with the bytes that dnsvip/dns/hotpath/fastpath.py gives, from answers
 * and addresses that user space has made before (dnsvip/dns/io/xdp). It decides nothing by itself: whatever is not in
 * the maps goes to the server untouched, and is told to user space where it is missing again. */
#include "seal.h"
#include "dns_answer.h"
#include "dns_busy.h"
#include "dns_requester.h"
#include "cipher.h"

static __always_inline struct dns_work *dns_work(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&dns_works, &zero);
}

/* Tells user space about the question in work.asked, where the same was missing before. */
static __always_inline void tell(struct dns_work *w, __u64 what)
{
	if (comes_again(what))
		bpf_ringbuf_output(&missing, &w->asked, offsetof(struct asked, wire) + (w->asked.length & 1023),
				   BPF_RB_NO_WAKEUP);
}

/* Gets the address of who asks from a maker into work.made; returns whether it could, else the server has to answer. Whom the
 * program has nothing of is identified by the prefix, where `identifies`. */
static __always_inline int find_address(struct dns_work *w, __u32 generation, __u32 number, int identifies)
{
	struct ready *ready;
	__u64 owner;

	w->who.maker = number;
	if (identifies) {
		if (find_recent(generation))
			return 1;
		if (find_identified(generation)) {
			remember(generation);
			return 1;
		}
	}
	owner = owner_of(&w->who, generation);
	ready = bpf_map_lookup_elem(&requesters, &w->who);
	if (!ready || !take_made(w, &ready->made, owner)) {
		if (!ready || w->made.owner != owner || !w->made.renew) {
			w->whose.missing = owner;
			if (!identifies || !introduce(generation, owner)) {
				tell(w, w->whose.missing);
				return 0;
			}
		} else if (!seal(ready, number, generation, owner) || !take_made(w, &ready->made, owner)) {
			return 0;
		}
	}
	return 1;
}

/* The same for a hole, into work.address. */
static __always_inline int fill(struct dns_work *w, __u32 generation, __u32 number, __u32 hole, int identifies)
{
	if (!find_address(w, generation, number, identifies))
		return 0;
	w->address[hole][0] = w->made.address[0];
	w->address[hole][1] = w->made.address[1];
	return 1;
}

/* Whether a packet is a question that is left to the server. */
static __always_inline int is_left(__u32 reason)
{
	return reason >= DNS_UNUSUAL && reason <= DNS_NOT_SENT;
}

/* Answers a packet; but for DNS_ANSWERED, DNS_SLIPPED and DNS_DROPPED it stays as it was. */
static __always_inline int answer(struct xdp_md *ctx, struct dns_work *w, const struct dns_config *c, struct asking *a)
{
	struct template *t;
	struct door *door;
	__u32 length, n, scope = 0, cell, addresses, is_known, is_read;
	__u64 now;

	door = enter(ctx, w, c, a);
	if (!door)
		return DNS_NOT_OURS;
	now = c->now ? c->now : bpf_ktime_get_coarse_ns();
	if (now >= c->until)
		return DNS_OFF;
	addresses = *(volatile __u32 *)&c->addresses;
	w->unix_ns = now + c->clock_offset;
	w->unix_seconds = w->unix_ns / NANOSECONDS;
	length = a->length;
	opaque(length);
	if (length < QUESTION + 5 || length > LONGEST ||
	    bpf_xdp_load_bytes(ctx, a->message, w->asked.wire, length))
		return DNS_UNUSUAL;
	__builtin_memset(w->asked.wire + length, 0, OPT_BYTES);
	w->asked.source[0] = w->packet.key.source[0];
	w->asked.source[1] = w->packet.key.source[1];
	w->asked.length = length;
	w->asked.listener = door->listener;
	w->asked.version = w->packet.key.version;
	if (!read_question(w, c, a))
		return DNS_UNUSUAL;
	w->name.wants_signatures = c->has_signatures && wants_signatures(w, a);
	a->hash = hashed(a->hash, (__u32)w->name.wants_signatures << 16 | w->name.type, c->name_key[1]);
	t = bpf_map_lookup_elem(&templates, &a->hash);
	is_known = t && t->generation == c->names && t->owner == a->hash && is_named(w, t, a);
	if (!is_known) {
		tell(w, a->hash);
		if (!c->up_cost)
			return DNS_UNKNOWN_NAME;
	} else if (t->used != (__u32)w->unix_seconds) {
		t->used = w->unix_seconds;
	}
	is_read = read_opt(w, c, a);
	if (!is_known || !t || !t->body)
		return DNS_UNKNOWN_NAME;
	if (!is_read || (a->opt && !t->by_edns) || (w->ecs.family && door->guard == GUARD_KNOWN))
		return DNS_UNKNOWN_OPTION;
	if (!is_in(t->period, w->unix_seconds)) {
		tell(w, a->hash);
		return DNS_SIGNED;
	}
	if (t->size > a->room || a->room >= t->beyond)
		return DNS_TOO_BIG;
	w->who.source[0] = w->packet.key.source[0];
	w->who.source[1] = w->packet.key.source[1];
	w->who.listener = door->listener;
	w->who.version = w->packet.key.version;
	w->who.family = w->who.bits = 0;
	w->who.ecs[0] = w->who.ecs[1] = 0;
	if (door->guard && !fill(w, addresses, 0, 0, 0))
		return DNS_UNKNOWN_REQUESTER;
	if (w->ecs.family && t->holes)
		look_at_ecs(addresses);
	cell = t->cell;
	w->whose.is_known = 0;
	__builtin_memset(w->address, 0, sizeof(w->address));
#pragma clang loop unroll(full)
	for (n = 0; n < MAX_HOLES; n++) {
		if (n >= t->holes)
			break;
		if (!fill(w, addresses, t->hole[n].maker, n, 1))
			return DNS_UNKNOWN_REQUESTER;
		if (w->made.scope > scope)
			scope = w->made.scope;
		cell = t->cell + w->made.cell;
	}
	if (t->signatures) {
		__u64 unknown = find_signatures(w, t);

		if (unknown) {
			tell(w, unknown);
			return DNS_SIGNED;
		}
	}
	/* Makers are written in place, some time after the generation has changed. */
	if (*(volatile __u32 *)&c->addresses != addresses)
		return DNS_OFF;
	return send(ctx, w, c, a, t, scope, cell);
}

SEC("xdp")
int dns(struct xdp_md *ctx)
{
	struct dns_work *w = dns_work();
	__u32 zero = 0, reason = DNS_OFF;
	struct dns_config *c = bpf_map_lookup_elem(&dns_config, &zero);
	struct asking a = {};
	__u64 *number;

	if (w && c) {
		reason = answer(ctx, w, c, &a);
		if (c->up_cost && is_left(reason) && !may_go_up(w, c, a.is_proven))
			reason = DNS_BUSY;
	}
	if (reason >= DNS_REASONS)
		return XDP_ABORTED; /* half written: its template has gone meanwhile, or what was checked before does not hold */
	number = bpf_map_lookup_elem(&dns_reasons, &reason);
	if (number)
		++*number;
	if (reason == DNS_ANSWERED || reason == DNS_SLIPPED)
		return XDP_TX;
	if (reason == DNS_DROPPED || reason == DNS_BUSY)
		return XDP_DROP;
	bpf_tail_call(ctx, &next, 0);
	return XDP_PASS; /* there is no next */
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
