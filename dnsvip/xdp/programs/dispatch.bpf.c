/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The dispatcher in the kernel: figure 4 of the patent for every frame, as in dnsvip/dispatcher/engine.py. Parse the
 * packet, look into the connection key table, else verify the address, apply quality of service, select a server and
 * record the flow; then send. Verdict, reason, server and bytes equal the reference's for the same state. */
#include "select.h"
#include "sweep.h"
#include "ending.h"
#include "cipher.h"
#include "established.h"
#include "pieces.h"

/* Returns a server's answer under nat to its client; 1 where the packet is one. It prolongs the flow and never ends it
 * (dispatcher/engine.py). */
__noinline int reply(struct flow_key *key, __u32 reason)
{
	struct work *w = work();
	struct flow_key forward, *original;
	struct flow *flow;

	if (!w || !key)
		return 0;
	original = bpf_map_lookup_elem(&replies, key);
	if (!original)
		return 0;
	forward = *original;
	flow = live_flow(&forward, w->seconds);
	if (!flow)
		return 0;
	if (w->packet.shape == SHAPE_FLOW)
		flow->seen = w->seconds;
	w->client = flow->client;
	w->verdict.reply = 1;
	if (flow->owner & ENDED) {
		set_verdict(&w->verdict, ACTION_DROP, ended_reason(flow));
		return 1;
	}
	set_verdict(&w->verdict, ACTION_FORWARD, reason);
	w->verdict.mode = MODE_NAT;
	w->verdict.reply = 1;
	w->verdict.vip[0] = forward.destination[0];
	w->verdict.vip[1] = forward.destination[1];
	w->verdict.port = forward.source_port;
	return 1;
}

/* Forwards along the flow with a key; 1 where there is one. */
static __always_inline int follow(struct work *w, const struct site *site, struct flow_key *key, __u8 reason)
{
	__u32 number;
	struct flow *flow = live_flow(key, w->seconds);

	if (!flow)
		return site->translates && reply(key, reason);
	number = flow->owner >> 8;
	if (!keeps_flows(site, number, w->packet.version))
		return 0;
	w->client = flow->client;
	forward_to(&w->verdict, site, flow->owner, reason, flow->hash);
	w->verdict.port = flow->translated ? flow->port : w->packet.key.source_port;
	if (reason == REASON_FRAGMENT && is_policed(site, flow->tier)) /* errors come from routers */
		police(flow->client, flow->tier);
	return 1;
}

/* Drops a packet to a cluster and passes all others. */
static __always_inline void drop_or_pass(struct work *w, const struct site *site, __u8 reason)
{
	if (cluster_of(&w->cluster, site, &w->packet.key) != NONE)
		set_verdict(&w->verdict, ACTION_DROP, reason);
	else
		set_verdict(&w->verdict, ACTION_PASS, REASON_NOT_OURS);
}

/* `drop_or_pass` for this reason, or for the packet's source. */
static __always_inline void unfit(struct work *w, const struct site *site, __u8 reason)
{
	drop_or_pass(w, site, is_martian(&w->packet.key) ? REASON_MARTIAN_SOURCE : reason);
}

/* Drops an unreadable packet, unless its addresses are readable and not ours. */
static __always_inline void reject(struct work *w, const struct site *site, __u8 reason)
{
	if (w->packet.readable)
		drop_or_pass(w, site, reason);
	else
		set_verdict(&w->verdict, ACTION_DROP, reason);
}

/* Drops a packet that is too big where no ICMP error may be sent. */
static __always_inline void check_path_mtu(struct work *w, const struct site *site)
{
	__u32 number = w->verdict.server;

	if (number < MAX_SERVERS && w->packet.end - w->packet.network > site->servers[number].path_mtu) {
		set_verdict(&w->verdict, ACTION_DROP, REASON_TOO_BIG);
		w->verdict.server = NONE;
	}
}

/* Packets without a flow key of their own: ICMP errors, later fragments, other protocols. Returns 1 for an error about
 * a flow that is not known here. */
__noinline int decide_without_flow(void)
{
	struct site *site = current_site();
	struct work *w = work();
	struct remembered *first;
	struct flow_key key;

	if (!site || !w)
		return 0;
	if (w->packet.shape == SHAPE_ERROR) {
		if (w->packet.martian)
			drop_or_pass(w, site, REASON_MARTIAN_SOURCE);
		else if (follow(w, site, &w->packet.key, REASON_ICMP_ERROR))
			check_path_mtu(w, site);
		else
			return 1;
	} else if (w->packet.shape == SHAPE_FRAGMENT) {
		first = known_first(&w->packet.fragment, w->seconds);
		if (first) {
			key = first->key;
			if (follow(w, site, &key, REASON_FRAGMENT)) {
				check_path_mtu(w, site);
				return 0;
			}
		}
		unfit(w, site, REASON_FRAGMENT_WITHOUT_FIRST);
	} else {
		unfit(w, site, REASON_UNSUPPORTED_PROTOCOL);
	}
	return 0;
}

/* An ICMP error about a flow that is not known here. */
static __always_inline void decide_unknown_error(struct work *w, const struct site *site)
{
	struct lanes *l = lanes_now();

	if (l && follow_elsewhere(w, site, l))
		check_path_mtu(w, site);
	else
		drop_or_pass(w, site, REASON_ICMP_ERROR_UNKNOWN_FLOW);
}

/* Always 0. (No part of what calls it, as stacks are small.) */
static __noinline int remember_fragment(struct work *w)
{
	struct remembered first = {.key = w->packet.key, .until = w->seconds + FRAGMENT_SECONDS};

	bpf_map_update_elem(&fragments, &w->packet.fragment, &first, BPF_ANY);
	mark_first(&w->packet.fragment, first.until);
	return 0;
}

/* Drops the answer where it may not be sent or is over the rate. */
static __always_inline void check_answer(struct xdp_md *ctx, struct work *w)
{
	__u32 bucket = w->verdict.reason == REASON_TOO_BIG ? BUCKET_TOO_BIG :
		       w->verdict.reason == REASON_EXPIRED ? BUCKET_EXPIRED : BUCKET_NO_SERVER;

	if (!may_answer(ctx, &w->packet, w->verdict.reason) ||
	    take_token(bucket, ANSWER_INTERVAL, ANSWER_BURST, 0, w->now))
		w->verdict.action = ACTION_DROP;
}

/* Whether the destination of work.packet is forged and no flow goes to it; tells only where its word of the filter is
 * crowded. */
__noinline int is_stranger(__u32 filter)
{
	struct site *site = current_site();
	struct config *c = settings();
	struct work *w = work();

	if (!is_crowded(filter) || !site || !c || !w || !c->marked)
		return 0;
	return is_forged(&w->packet.key, cluster_of(&w->cluster, site, &w->packet.key));
}

/* Forgets the flow of work.packet where it is relayed to another dispatcher that is lost; returns whether. */
__noinline int forget_lost(struct xdp_md *ctx)
{
	struct site *site = current_site();
	struct work *w = work();
	struct flow *flow = w ? find_flow(&w->packet.key) : NULL;
	__u32 number = flow ? flow->owner >> 8 : NONE;

	if (!site || !w || !flow || number >= MAX_SERVERS || site->servers[number].keeps || !site->servers[number].peer ||
	    (may_open(&w->packet, flow) && opens_again(ctx, &w->packet, flow, w->seconds)))
		return 0;
	forget(flow);
	return 1;
}

/* Decides a packet of a flow, into work.verdict. */
static __always_inline void decide(struct xdp_md *ctx, struct work *w, const struct site *site, const struct config *c)
{
	struct packet *p = &w->packet;
	struct verdict *v = &w->verdict;
	struct lanes *l = lanes_now();
	struct flow *flow;
	__u32 number, size;
	__u32 *filter;

	if (!l)
		return;
	if (c->enclosed && cluster_of(&w->cluster, site, &p->key) == NONE) {
		if (!site->translates || !reply(&p->key, REASON_REPLY))
			pass_on(w);
		goto decided;
	}
	w->address_hash = address_hash(l, &p->key);
	w->index_hash = index_hash(l, &p->key);
	filter = filter_word(l, sweeps_of(l->phase), w->address_hash);
	if (!filter)
		return;
	/* Before the look-up only for a SYN: nearly all other packets belong to known flows. */
	w->forged = p->flags & SYN &&
		    (may_be_known(filter, w->index_hash) || may_be_known(filter, w->address_hash)) &&
		    is_stranger(*filter);
	flow = w->forged ? NULL : follow_flow(l, p, filter, w->index_hash, w->seconds);
	if (w->shares && forget_lost(ctx))
		flow = NULL;
	if (!flow || (may_open(p, flow) && opens_again(ctx, p, flow, w->seconds))) {
		w->running = is_running(ctx, p);
		w->label = flow_label(ctx, p);
		w->again = !flow ? AGAIN_NOT : flow->answered ? AGAIN_ANSWERED : AGAIN_UNANSWERED;
		w->maybe_decoded = !w->forged && may_be_known(filter, w->address_hash);
		if (w->maybe_decoded && !(p->flags & SYN)) {
			w->forged = is_stranger(*filter);
			w->maybe_decoded = !w->forged;
		}
		if (flow || !site->translates || !reply(&p->key, REASON_REPLY))
			new_flow(w, site, l);
	} else {
		number = flow->owner >> 8;
		w->client = flow->client;
		if (keeps_flows(site, number, p->version))
			forward_to(v, site, flow->owner, REASON_KNOWN, flow->hash);
		else
			reselect();
		if (is_policed(site, flow->tier) && v->action == ACTION_FORWARD)
			police(flow->client, flow->tier);
		if (v->action == ACTION_FORWARD && v->mode == MODE_NAT)
			assign_port(w);
		if (w->client && v->action == ACTION_FORWARD) {
			flow->packets++;
			flow->bytes += p->end - p->network;
			w->counted = 1;
		}
	}
decided:
	if (p->fragmented && v->action == ACTION_FORWARD)
		remember_fragment(w);
	number = v->server;
	size = p->end - p->network;
	if (number < MAX_SERVERS && size > site->servers[number].path_mtu) {
		v->mtu = site->servers[number].path_mtu;
		v->server = NONE;
		v->held = 0;
		set_verdict(v, ACTION_ANSWER, REASON_TOO_BIG);
	}
	if (v->action == ACTION_ANSWER)
		check_answer(ctx, w);
	if (w->client && (!w->counted || v->action != ACTION_FORWARD))
		count_usage();
}

/* Hands the packet to the user-space runner, by way of the kernel's routes; see README.md. */
static __always_inline int to_user_space(const struct config *c)
{
	count_side(SIDE_TO_USER_SPACE);
	return c->user_space ? XDP_PASS : XDP_DROP;
}

/* Sends a packet that the verdict forwards, rewritten. */
static __always_inline int forward(struct xdp_md *ctx, struct work *w, const struct config *c)
{
	struct verdict *v = &w->verdict;
	__u32 number = v->server;
	struct hop *hop;

	if (v->reply) {
		translate(ctx);
		return send_on(ctx);
	}
	hop = bpf_map_lookup_elem(&hops, &number);
	if (!hop)
		return XDP_DROP;
	if (hop->until < w->now)
		refresh_hop(ctx, number);
	if (!hop->known) {
		increment_hop_limit(ctx, &w->packet); /* the kernel decrements it */
		return to_user_space(c);
	}
	if (v->mode == MODE_ENCAP && !encapsulate(ctx)) {
		count_side(SIDE_NOT_SENT);
		return XDP_DROP;
	}
	if (v->mode == MODE_NAT)
		translate(ctx);
	if (v->mode != MODE_ENCAP && v->dscp != NO_DSCP)
		set_dscp(ctx, &w->packet, v->dscp);
	hop->packets++;
	hop->bytes += w->packet.end - w->packet.network;
	return send(ctx, hop);
}

/* Carries out the verdict; an XDP action. */
static __always_inline int carry_out(struct xdp_md *ctx, struct work *w, const struct config *c)
{
	if (w->verdict.action == ACTION_DROP)
		return XDP_DROP;
	if (w->verdict.action == ACTION_PASS)
		return XDP_PASS;
	if (w->verdict.held || !decrement_hop_limit(ctx, &w->packet))
		return to_user_space(c);
	return w->verdict.action == ACTION_ANSWER ? answer(ctx) : forward(ctx, w, c);
}

static __always_inline void count(struct xdp_md *ctx, const struct verdict *v)
{
	__u32 index = v->reason + REASONS * v->action;
	struct counter *counter = bpf_map_lookup_elem(&counters, &index);

	if (counter) {
		counter->packets++;
		counter->bytes += frame_length(ctx);
	}
}

static __always_inline int is_refused(const struct verdict *v)
{
	return v->action == ACTION_DROP || v->action == ACTION_ANSWER;
}

/* Counts a packet that is dropped or answered, by its cluster. Always 0. */
static __noinline int count_drop(void)
{
	struct site *site = current_site();
	struct work *w = work();
	struct cluster_drops *drops;
	__u32 cluster;

	if (!site || !w || !w->packet.readable)
		return 0;
	cluster = cluster_of(&w->cluster, site, &w->packet.key);
	drops = cluster < MAX_CLUSTERS ? bpf_map_lookup_elem(&cluster_drops, &cluster) : NULL;
	if (!drops)
		return 0;
	if (w->verdict.action == ACTION_DROP)
		drops->dropped++;
	else
		drops->answered++;
	return 0;
}

static __always_inline int is_watched(__u32 kind, const __be64 *value)
{
	struct watch name = {.kind = kind, .value = {value[0], value[1]}};

	return bpf_map_lookup_elem(&watches, &name) != NULL;
}

/* Sends an event about the packet to user space, where it is watched or sampled. Always 0. */
__noinline int send_event(struct xdp_md *ctx)
{
	struct config *c = settings();
	struct work *w = work();
	struct event *event;
	__be64 client[2] = {};
	int watched = 0;
	__u32 rate;

	if (!c || !w)
		return 0;
	if (c->watched) {
		client[1] = bpf_cpu_to_be64(w->client);
		watched = is_watched(WATCH_ADDRESS, w->packet.key.destination) ||
			  is_watched(WATCH_ADDRESS, w->packet.key.source) ||
			  (w->client && is_watched(WATCH_CLIENT, client));
	}
	rate = is_refused(&w->verdict) && c->drops > c->sample ? c->drops : c->sample;
	if (!watched && bpf_get_prandom_u32() >= rate)
		return 0;
	event = &w->event;
	event->time = w->now;
	event->key = w->packet.key;
	event->client = w->client;
	event->server = w->verdict.server;
	event->length = frame_length(ctx);
	event->reason = w->verdict.reason;
	event->action = w->verdict.action;
	event->mode = w->verdict.mode;
	event->flags = w->packet.flags;
	event->watched = watched;
	if (bpf_ringbuf_output(&events, event, sizeof(*event), 0))
		count_side(SIDE_EVENT_LOST);
	return 0;
}

/* Decides a packet that no straight way takes, and carries the verdict out; an XDP action. (No part of `dispatch`, as the
 * straight ways share its stack.) */
static __noinline int take_long_way(struct xdp_md *ctx, struct work *w, const struct site *site, const struct config *c)
{
	int fault;

	clear(w, site);
	fault = parse(ctx, &w->packet);
	w->verdict.port = w->packet.key.source_port;
	if (fault == NOT_IP) {
		w->packet.key.version = 0; /* no flow to show in an event */
		set_verdict(&w->verdict, ACTION_PASS, REASON_NOT_OURS);
	} else if (fault)
		reject(w, site, fault);
	else if (w->packet.shape == SHAPE_FLOW)
		decide(ctx, w, site, c);
	else if (decide_without_flow())
		decide_unknown_error(w, site);
	count(ctx, &w->verdict);
	if (is_refused(&w->verdict)) {
		count_drop();
		if (c->drops || c->sample || c->watched)
			send_event(ctx);
	} else if (c->sample || c->watched) {
		send_event(ctx);
	}
	if (c->trace)
		trace(w->verdict.reason, w->verdict.action, w->verdict.server, w->verdict.held);
	return carry_out(ctx, w, c);
}

SEC("xdp")
int dispatch(struct xdp_md *ctx)
{
	struct site *site = current_site();
	struct config *c = settings();
	struct pace *own = pace();
	struct straight *head;
	struct work *w;
	__u32 flags;
	int action;

	if (!site || !own)
		return XDP_PASS;
	read_clock(own, c);
	if (unlikely(site->shares))
		unwrap(ctx);
	if (!(c->sample | c->watched)) {
		head = straight_head(ctx, &flags);
		if (!head)
			flags = NO_HEAD;
		else if (likely(!(flags & (FIN | SYN | RST)))) {
			action = follow_established(ctx, own, site, head);
			if (action >= 0)
				return action;
		}
	} else {
		flags = FIN; /* no straight way */
	}
	w = work();
	if (!w)
		return XDP_PASS;
	w->now = own->now;
	w->seconds = own->seconds;
	action = LEFT;
	if (flags == NO_HEAD)
		action = piece_bytes(ctx) ? drop_piece(ctx, w, site, c) : LEFT;
	else if ((flags & (FIN | SYN | RST)) == SYN)
		action = follow_opening(ctx, w, site, c, flags);
	if (action >= 0)
		return action;
	return take_long_way(ctx, w, site, c);
}

/* Makes clang write the enums that user space reads into the object's BTF. libbpf does not load this section. */
const struct {
	enum absent absent;
	enum bounds bounds;
	enum reason reason;
	enum side side;
	enum action action;
	enum mode mode;
	enum routed routed;
	enum evidence evidence;
	enum per per;
	enum stickiness stickiness;
	enum flow_state flow_state;
	enum watch_kind watch_kind;
} shared_enums SEC("enums") = {};

char LICENSE[] SEC("license") = "Dual MIT/GPL";
