/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Samples of questions and their answers for the query log and others, each picked as dnsvip/telemetry/sample_log.py picks:
 * one in so many, by counting, here on each processor. */
#pragma once
#include "dns_maps.h"

/* What goes to user space: the question, and right behind it the answer. */
struct dns_sample {
	__u64 time; /* unix nanoseconds */
	__be64 source[2];
	__u16 question; /* bytes */
	__u16 answer;   /* 0: none was sent */
	__u16 cell;     /* as it is counted */
	__u8 listener;
	__u8 version;
	__u8 takers;    /* bits of those that picked it, by number */
	__u8 is_proven; /* the source, by a valid cookie */
	__u16 zero[3];
	__u8 wire[LONGEST + MOST_ANSWER];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} samples SEC(".maps");

struct dns_sampling {
	struct dns_sample sample;
	__u32 left[MAX_TAKERS]; /* until the next is picked */
	__u64 lost[MAX_TAKERS]; /* picked, and no room in the ring */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct dns_sampling);
} sampling SEC(".maps");

/* Counts an answer, and begins a sample of it where one is to be taken; NULL where not. */
static __always_inline struct dns_sampling *pick(struct xdp_md *ctx, const struct dns_work *w, const struct dns_config *c,
						 __u32 message, __u32 cell)
{
	__u32 zero = 0, takers = 0, length = w->asked.length, n, left, one_in;
	struct dns_sampling *s = bpf_map_lookup_elem(&sampling, &zero);
	struct dns_sample *sample;

	if (!s)
		return NULL;
#pragma clang loop unroll(full)
	for (n = 0; n < MAX_TAKERS; n++) {
		one_in = c->one_in[n];
		if (!one_in)
			continue;
		left = s->left[n] && s->left[n] <= one_in ? s->left[n] : one_in;
		if (!--left) {
			takers |= 1 << n;
			left = one_in;
		}
		s->left[n] = left;
	}
	if (!takers)
		return NULL;
	sample = &s->sample;
	sample->time = w->unix_ns;
	sample->source[0] = w->packet.key.source[0];
	sample->source[1] = w->packet.key.source[1];
	sample->question = length;
	sample->answer = 0;
	sample->cell = cell;
	sample->listener = w->asked.listener;
	sample->version = w->asked.version;
	sample->takers = takers;
	opaque(length);
	if (!length || length > LONGEST || bpf_xdp_load_bytes(ctx, message, sample->wire, length))
		return NULL;
	return s;
}

/* Sends a sample with the answer of so many bytes in the frame, which may be 0. */
static __always_inline void send_sample(struct xdp_md *ctx, struct dns_sampling *s, __u32 message, __u32 answer)
{
	struct dns_sample *sample = &s->sample;
	__u32 question = sample->question, size, n;

	opaque(question);
	opaque(answer);
	if (question > LONGEST || answer > MOST_ANSWER)
		return;
	if (answer && bpf_xdp_load_bytes(ctx, message, sample->wire + question, answer))
		return;
	sample->answer = answer;
	size = offsetof(struct dns_sample, wire) + question + answer;
	opaque(size);
	if (size > sizeof(*sample) || !bpf_ringbuf_output(&samples, sample, size, BPF_RB_NO_WAKEUP))
		return;
#pragma clang loop unroll(full)
	for (n = 0; n < MAX_TAKERS; n++)
		if (sample->takers & 1 << n)
			s->lost[n]++;
}
