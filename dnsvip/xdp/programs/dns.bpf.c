/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Answers frequent DNS questions in the kernel: with the bytes that dnsvip/dns/hotpath/fastpath.py gives, from answers
 * and addresses that user space has made before (dnsvip/dns/io/xdp). It decides nothing by itself: whatever is not in
 * the maps goes to the server untouched, and is told to user space where it is missing again. */
#include "seal.h"
#include "dns_cookies.h"
#include "dns_identify.h"
#include "dns_signatures.h"
#include "dns_busy.h"
#include "dns_samples.h"
#include "cipher.h"
#include "parse.h"

#define QUESTION 12 /* offset in a message */
#define OPT_FIXED 11
#define OPTION_FIXED 4
#define ECS_FIXED 8
#define ECS_CODE 8
#define HOPS 64
#define ONES 0x0101010101010101ULL

struct dns_head {
	__be16 id;
	__u8 flags[2];
	__be16 counts[4];
};

/* An OPT record (RFC 6891 section 6.1.2), and the ECS option (RFC 7871 section 6). */
struct opt {
	__u8 name;
	__be16 type;
	__be16 size;
	__u8 rcode;
	__u8 version;
	__be16 flags;
	__be16 length;
} __attribute__((packed));

struct ecs {
	__be16 code;
	__be16 length;
	__be16 family;
	__u8 source;
	__u8 scope;
	__u8 address[16];
} __attribute__((packed));

/* A question while it is being answered; offsets count from the first byte of its message. */
struct asking {
	__u32 message; /* frame offset */
	__u32 end;     /* of the question */
	__u32 length;  /* of the message */
	__u32 opt;     /* bytes of the answer's OPT record */
	__u32 room;    /* for an answer without it */
	__u32 cookie;  /* where the option is that is to get a server's cookie; 0: there is none */
	__u32 is_proven;  /* the source, by a valid cookie */
	__u32 is_slipped; /* the answer is to be empty */
	__u32 words;   /* of the name, less one */
	__u64 sum;  /* of the words of the question, in the order of memory */
	__u64 hash; /* of name and type, as `question_hash` in dnsvip/dns/io/xdp/image.py */
};

/* A word more in the hash of a question. (Twice, with a shift between: a difference of the top bits alone must not stay
 * one that another word takes back whatever the key is.) */
static __always_inline __u64 hashed(__u64 hash, __u64 word, __u64 factor)
{
	hash = (hash ^ word) * factor;
	hash = (hash ^ hash >> 29) * 0xbf58476d1ce4e5b9ULL;
	return hash ^ hash >> 32;
}

/* Upper-case letters in lower case, eight bytes at a time. */
static __always_inline __u64 lowered(__u64 word)
{
	__u64 low = word & ~(ONES * 0x80);
	__u64 from_a = low + ONES * (0x80 - 'A'), past_z = low + ONES * (0x7f - 'Z');

	return word | ((from_a ^ past_z) & ~word & ONES * 0x80) >> 2;
}

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

/* Parses a frame down to the UDP payload, for the addresses that it answers; returns 0 where it is none of them. */
static __always_inline struct door *enter(struct xdp_md *ctx, struct dns_work *w, const struct dns_config *c,
					  struct asking *a)
{
	struct packet *p = &w->packet;
	struct door_key key = {};
	struct ethhdr *ethernet;
	struct udp_head *udp;
	__u32 type = parse_ethernet(ctx, p), length, upper;

	ethernet = bytes_at(ctx, 0, sizeof(*ethernet));
	if (!ethernet || __builtin_memcmp(ethernet->h_dest, c->mac, ETH_ALEN))
		return NULL;
	if (type == ETH_P_IPV6) {
		struct ip6_head *ip = bytes_at(ctx, p->network, sizeof(*ip));

		if (!ip || (bpf_ntohl(ip->word) >> 28) != 6 || ip->next != IPPROTO_UDP)
			return NULL;
		p->key.version = 6;
		__builtin_memcpy(p->key.source, ip->source, 32);
		length = bpf_ntohs(ip->length);
		upper = p->network + sizeof(*ip);
	} else if (type == ETH_P_IP) {
		struct ip4_head *ip = bytes_at(ctx, p->network, sizeof(*ip));
		__u16 *words = (void *)ip;
		__u64 sum = 0;

		if (!ip || ip->version_length != 0x45 || ip->protocol != IPPROTO_UDP ||
		    ip->piece & bpf_htons(0x3fff))
			return NULL;
#pragma clang loop unroll(full)
		for (int n = 0; n < 10; n++)
			sum += words[n];
		if (fold(sum) != 0xffff)
			return NULL;
		p->key.version = 4;
		p->key.source[0] = p->key.destination[0] = 0;
		p->key.source[1] = (__u64)ip->source << 32;
		p->key.destination[1] = (__u64)ip->destination << 32;
		length = bpf_ntohs(ip->length) - sizeof(*ip);
		upper = p->network + sizeof(*ip);
	} else {
		return NULL;
	}
	udp = bytes_at(ctx, upper, sizeof(*udp));
	if (!udp || bpf_ntohs(udp->length) != length || !udp->source_port ||
	    (p->key.version == 6 && !udp->check) || upper + length > frame_length(ctx))
		return NULL;
	key.address[0] = p->key.destination[0];
	key.address[1] = p->key.destination[1];
	key.port = udp->destination_port;
	key.version = p->key.version;
	p->upper = upper;
	a->message = upper + sizeof(*udp);
	a->length = length - sizeof(*udp);
	if (is_martian(&p->key))
		return NULL;
	return bpf_map_lookup_elem(&doors, &key);
}

/* Reads the question into work.name; returns 0 where it is none that is recognized. */
static __always_inline int read_question(struct dns_work *w, const struct dns_config *c, struct asking *a)
{
	struct dns_head *head = (void *)w->asked.wire;
	__u64 *words = (void *)(w->asked.wire + QUESTION);
	__u32 n, at, tail, ended = 0;
	__u64 word, zeros, mask;

	if (head->flags[0] > 1 || head->counts[0] != bpf_htons(1) || head->counts[1] || head->counts[2] ||
	    bpf_ntohs(head->counts[3]) > 1)
		return 0;
	a->sum = 0;
	a->hash = c->name_key[0];
	at = QUESTION;
#pragma clang loop unroll(disable)
	for (n = 0; n < NAME_BYTES / 8; n++) {
		word = __le64_to_cpu(words[n]);
		zeros = (word - ONES) & ~word & ONES * 0x80;
		if (zeros) {
			mask = (zeros & -zeros) - 1;
			word &= mask;
			/* the number of whole bytes below the zero */
			at += ((((mask + 1) >> 7) - 1 & ONES) * ONES >> 56) + 1;
			ended = 1;
		} else {
			at += 8;
		}
		word = __cpu_to_le64(word);
		a->sum += sum_of(word);
		word = lowered(word);
		w->name.name[n] = word;
		a->hash = hashed(a->hash, word, c->name_key[1]);
		if (ended)
			break;
	}
	opaque(at);
	if (!ended || at > QUESTION + NAME_BYTES || at + 4 > a->length)
		return 0;
	a->words = n;
	tail = *(__u32 *)(w->asked.wire + at);
	if ((tail & bpf_htonl(0xffff)) != bpf_htonl(1))
		return 0;
	w->name.type = *(__be16 *)(w->asked.wire + at);
	a->sum += sum_at(at, tail);
	a->end = at + 4;
	return 1;
}

/* Whether a template is that of the name in work.name. */
static __always_inline int is_named(const struct dns_work *w, const struct template *t, const struct asking *a)
{
	__u32 n;

	if (w->name.type != t->name.type || w->name.wants_signatures != t->name.wants_signatures)
		return 0;
#pragma clang loop unroll(disable)
	for (n = 0; n < NAME_BYTES / 8; n++) {
		if (w->name.name[n] != t->name.name[n])
			return 0;
		if (n >= a->words)
			break;
	}
	return 1;
}

/* Whether an OPT record that follows the question has DO set; it has not been read yet. */
static __always_inline int wants_signatures(const struct dns_work *w, const struct asking *a)
{
	const struct dns_head *head = (const void *)w->asked.wire;
	__u32 end = a->end;

	opaque(end);
	return head->counts[3] && end <= QUESTION + NAME_BYTES + 4 && end + OPT_FIXED <= a->length &&
	       ((const struct opt *)(w->asked.wire + end))->flags & bpf_htons(0x8000);
}

/* Reads the ECS option at an offset of the message into work.ecs; returns its length, 0 where it is malformed. */
static __always_inline __u32 read_ecs(struct dns_work *w, const struct ecs *ecs, __u32 room)
{
	__u32 source = ecs->source, bytes = (source + 7) / 8;
	__u64 hi, lo, mask_hi, mask_lo;

	if (ecs->scope || !source || ECS_FIXED + bytes > room || bpf_ntohs(ecs->length) != 4 + bytes ||
	    source > (ecs->family == bpf_htons(1) ? 32 : ecs->family == bpf_htons(2) ? 128 : 0))
		return 0;
	__builtin_memcpy(w->ecs.address, ecs->address, 16);
	hi = bpf_be64_to_cpu(w->ecs.address[0]);
	lo = bpf_be64_to_cpu(w->ecs.address[1]);
	mask_hi = bytes >= 8 ? ~0ULL : ~(~0ULL >> (bytes * 8 & 63)); /* what follows belongs to another option */
	mask_lo = bytes >= 16 ? ~0ULL : bytes > 8 ? ~(~0ULL >> (bytes * 8 & 63)) : 0;
	hi &= mask_hi;
	lo &= mask_lo;
	mask_hi = source >= 64 ? 0 : ~0ULL >> (source & 63);
	mask_lo = source >= 128 ? 0 : source > 64 ? ~0ULL >> (source & 63) : ~0ULL;
	if ((hi & mask_hi) | (lo & mask_lo))
		return 0;
	w->ecs.address[0] = bpf_cpu_to_be64(hi);
	w->ecs.address[1] = bpf_cpu_to_be64(lo);
	w->ecs.family = bpf_ntohs(ecs->family);
	w->ecs.bits = source;
	return ECS_FIXED + bytes;
}

/* Reads the COOKIE option at an offset of the message, which ends after `room` bytes; returns 0 where it is none that is
 * recognized. */
static __always_inline int read_cookie(struct dns_work *w, const struct dns_config *c, struct asking *a, __u32 at, __u32 room)
{
	struct cookie *cookie;
	enum cookie_verdict verdict = COOKIE_INVALID;
	__u32 length;

	opaque(at);
	if (at > QUESTION + NAME_BYTES + 4 + OPT_FIXED + ECS_FIXED + 16 || !c->secrets)
		return 0;
	cookie = (void *)(w->asked.wire + at);
	length = bpf_ntohs(cookie->length);
	if (cookie->code != bpf_htons(COOKIE_CODE) || room != OPTION_FIXED + length)
		return 0;
	if (length == WHOLE_COOKIE)
		verdict = judge_cookie(w, c, cookie);
	else if (length != CLIENT_COOKIE)
		return 0;
	if (verdict == COOKIE_INVALID && c->requires_cookies)
		return 0;
	a->is_proven = verdict != COOKIE_INVALID;
	a->cookie = verdict == COOKIE_CURRENT ? 0 : at;
	a->opt += WHOLE_COOKIE - length;
	return 1;
}

/* Reads the OPT record; returns 0 where it is none that is recognized. */
static __always_inline int read_opt(struct dns_work *w, const struct dns_config *c, struct asking *a)
{
	struct dns_head *head = (void *)w->asked.wire;
	__u32 end = a->end, size, at, room, ecs;
	struct opt *opt;

	w->ecs.family = w->ecs.bits = 0;
	w->ecs.address[0] = w->ecs.address[1] = 0;
	a->opt = a->cookie = a->is_proven = 0;
	a->room = 512;
	if (!head->counts[3])
		return a->length == end;
	if (end > QUESTION + NAME_BYTES + 4)
		return 0;
	opt = (void *)(w->asked.wire + end);
	if (a->length < end + OPT_FIXED || opt->name || opt->type != bpf_htons(41) || opt->rcode || opt->version ||
	    opt->flags & bpf_htons(0x7fff))
		return 0;
	room = bpf_ntohs(opt->length);
	a->opt = OPT_FIXED + room;
	if (a->length != end + a->opt || a->opt > OPT_BYTES)
		return 0;
	size = bpf_ntohs(opt->size);
	size = size < 512 ? 512 : size > EDNS_SIZE ? EDNS_SIZE : size;
	at = end + OPT_FIXED;
	if (room && *(__be16 *)(w->asked.wire + at) == bpf_htons(ECS_CODE)) {
		ecs = read_ecs(w, (void *)(w->asked.wire + at), room);
		if (!ecs)
			return 0;
		room -= ecs;
		at += ecs;
	}
	if (room && !read_cookie(w, c, a, at, room))
		return 0;
	a->room = size - a->opt;
	return 1;
}

/* Copies a requester's address into work.made; returns whether it holds now. */
static __always_inline int take_made(struct dns_work *w, const struct made *from, __u64 owner)
{
	struct made *made = &w->made;

	*made = *from;
	return made->owner == owner && made->check == check_of(made) &&
	       (!made->renew || (__u32)w->unix_seconds - made->since < made->renew);
}

/* Gets the address for a hole from a maker into work.address, and how it is counted into work.made; returns whether it
 * could, else the server has to answer. Who has not asked before is identified by the prefix, where `identifies`. */
static __always_inline int fill(struct dns_work *w, __u32 generation, __u32 number, __u32 hole, int identifies)
{
	struct ready *ready;
	__u64 owner;

	w->who.maker = number;
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
	w->address[hole][0] = w->made.address[0];
	w->address[hole][1] = w->made.address[1];
	return 1;
}

/* The UDP checksum that makes all of it add up; RFC 768: never 0. */
static __always_inline __u16 checksum_of(__u64 sum)
{
	__u16 check = ~fold(sum);

	return check ? check : 0xffff;
}

/* Turns the headers of a question into those of an answer, whose message has this sum and length. */
static __always_inline int turn(struct xdp_md *ctx, struct dns_work *w, __u64 sum, __u32 length)
{
	struct packet *p = &w->packet;
	struct ethhdr *ethernet = bytes_at(ctx, 0, sizeof(*ethernet));
	struct udp_head *udp = bytes_at(ctx, p->upper, sizeof(*udp));
	__u8 mac[ETH_ALEN];
	__be16 port;

	if (!ethernet || !udp)
		return 0;
	__builtin_memcpy(mac, ethernet->h_dest, ETH_ALEN);
	__builtin_memcpy(ethernet->h_dest, ethernet->h_source, ETH_ALEN);
	__builtin_memcpy(ethernet->h_source, mac, ETH_ALEN);
	port = udp->source_port;
	udp->source_port = udp->destination_port;
	udp->destination_port = port;
	length += sizeof(*udp);
	udp->length = bpf_htons(length);
	sum += (__u64)udp->source_port + udp->destination_port + 2 * (__u64)udp->length + bpf_htons(IPPROTO_UDP);
	sum = fold(sum) + fold(sum_of(p->key.source[0]) + sum_of(p->key.source[1])) +
	      fold(sum_of(p->key.destination[0]) + sum_of(p->key.destination[1]));
	udp->check = checksum_of(sum);
	if (p->key.version == 6) {
		struct ip6_head *ip = bytes_at(ctx, p->network, sizeof(*ip));

		if (!ip)
			return 0;
		ip->word = bpf_htonl(6U << 28);
		ip->length = bpf_htons(length);
		ip->hops = HOPS;
		__builtin_memcpy(ip->source, p->key.destination, 16);
		__builtin_memcpy(ip->destination, p->key.source, 16);
	} else {
		struct ip4_head *ip = bytes_at(ctx, p->network, sizeof(*ip));
		__u16 *words = (void *)ip;

		if (!ip)
			return 0;
		ip->tos = 0;
		ip->length = bpf_htons(length + sizeof(*ip));
		ip->piece = 0;
		ip->ttl = HOPS;
		ip->source = p->key.destination[1] >> 32;
		ip->destination = p->key.source[1] >> 32;
		ip->check = 0;
		sum = 0;
#pragma clang loop unroll(full)
		for (int n = 0; n < 10; n++)
			sum += words[n];
		ip->check = ~fold(sum);
	}
	return 1;
}

/* Writes the header of the answer; returns the sum of its words, 0 where the frame is too short. */
static __always_inline __u64 write_head(struct xdp_md *ctx, const struct asking *a, const struct template *t)
{
	struct dns_head *head = bytes_at(ctx, a->message, sizeof(*head));
	__be16 edns = a->opt ? bpf_htons(1) : 0;
	__be16 flags;

	if (!head)
		return 0;
	flags = t->flags | (head->flags[0] & 1 ? bpf_htons(0x100) : 0) | (a->is_slipped ? bpf_htons(0x200) : 0);
	__builtin_memcpy(head->flags, &flags, 2);
	head->counts[1] = a->is_slipped ? 0 : t->counts[0];
	head->counts[2] = a->is_slipped ? 0 : t->counts[1];
	head->counts[3] = (a->is_slipped ? 0 : t->counts[2]) + edns;
	return (__u64)head->id + flags + head->counts[0] + head->counts[1] + head->counts[2] + head->counts[3];
}

static __always_inline int write_address(struct xdp_md *ctx, __u32 at, const __be64 *words, int is_short)
{
	__u8 *to = is_short ? bytes_at(ctx, at, 4) : bytes_at(ctx, at, 16);

	if (!to)
		return 0;
	if (is_short)
		__builtin_memcpy(to, words, 4);
	else
		__builtin_memcpy(to, words, 16);
	return 1;
}

/* Writes what follows the question into the frame; returns its sum, negative where it could not. */
static __always_inline __s64 write_body(struct xdp_md *ctx, struct dns_work *w, const struct asking *a, struct template *t)
{
	__u32 body = t->body, start = a->message + a->end, n, at;
	__u64 sum = sum_at(a->end, t->sum);

	opaque(body);
	if (!body || body > BODY_BYTES || bpf_xdp_store_bytes(ctx, start, t->data, body))
		return -1;
#pragma clang loop unroll(full)
	for (n = 0; n < MAX_HOLES; n++) {
		__be64 *words = w->address[n];

		if (n >= t->holes)
			break;
		at = t->hole[n].at;
		if (!write_address(ctx, start + at, words, t->hole[n].length == 4))
			return -1;
		sum += sum_at(a->end + at, sum_of(words[0]) + sum_of(words[1]));
	}
	if (t->signatures) {
		__s64 signatures = write_signatures(ctx, w, t, start, a->end);

		if (signatures < 0)
			return -1;
		sum += signatures;
	}
	return sum;
}

/* Writes the OPT record behind so many bytes of body; as above. */
static __always_inline __s64 write_opt(struct xdp_md *ctx, struct dns_work *w, const struct dns_config *c,
				       const struct asking *a, __u32 body, __u32 scope)
{
	__u32 end = a->end, length = a->opt, at = a->cookie, n;
	struct opt *opt;
	__u64 sum = 0;

	opaque(end);
	opaque(at);
	opaque(length);
	if (end > QUESTION + NAME_BYTES + 4 || at > QUESTION + NAME_BYTES + 4 + OPT_FIXED + ECS_FIXED + 16 ||
	    length < OPT_FIXED || length > OPT_BYTES)
		return -1;
	opt = (void *)(w->asked.wire + end);
	opt->size = bpf_htons(EDNS_SIZE);
	opt->length = bpf_htons(a->opt - OPT_FIXED);
	if (w->ecs.family)
		((struct ecs *)(opt + 1))->scope = scope;
	if (at)
		make_cookie(w, c, (void *)(w->asked.wire + at));
	if (bpf_xdp_store_bytes(ctx, a->message + a->end + body, opt, length))
		return -1;
#pragma clang loop unroll(disable)
	for (n = 0; n < OPT_BYTES / 8; n++) {
		if (n * 8 >= length)
			break;
		sum += sum_of(*(__u64 *)((__u8 *)opt + n * 8)); /* what follows the record is zero */
	}
	return sum_at(a->end + body, sum);
}

/* Makes the frame so long: at its end, or where there is no room (veth) at its beginning, with everything up to the end
 * of the question moved there. Returns 0 where neither is possible; the frame is then as it was. */
static __always_inline int resize(struct xdp_md *ctx, struct dns_work *w, const struct asking *a, __u32 length)
{
	__u32 own = frame_length(ctx), more = length - own, head = a->message + a->end;

	if (!bpf_xdp_adjust_tail(ctx, (int)(length - own)))
		return 1;
	opaque(head);
	if (length <= own || head < sizeof(struct ethhdr) || head > HEAD_BYTES ||
	    bpf_xdp_load_bytes(ctx, 0, w->head, head) || bpf_xdp_adjust_head(ctx, -(int)more))
		return 0;
	return !bpf_xdp_store_bytes(ctx, 0, w->head, head);
}

static __always_inline void count_answer(__u32 cell, __u32 zone)
{
	__u64 *number = bpf_map_lookup_elem(&cells, &cell);

	if (number)
		++*number;
	number = bpf_map_lookup_elem(&dns_zones, &zone);
	if (number)
		++*number;
}

/* Sends the answer of a template: whole, or what the rate limit leaves of it. */
static __always_inline int send(struct xdp_md *ctx, struct dns_work *w, const struct dns_config *c, struct asking *a,
				struct template *t, __u32 scope, __u32 cell)
{
	__u32 length = a->end + t->body + a->opt, body = t->body, zone = t->zone;
	enum limit_verdict verdict = LIMIT_SEND;
	struct dns_sampling *picked = NULL;
	__s64 sum = 0, opt = 0, head;

	if (c->is_sampled) {
		picked = pick(ctx, w, c, a->message, cell); /* the question, before the answer takes its place */
		if (picked)
			picked->sample.is_proven = a->is_proven;
	}
	if (!resize(ctx, w, a, a->message + length))
		return DNS_NOT_SENT;
	if (c->cost && !a->is_proven)
		verdict = spend(w, c, t->kind);
	if (verdict != LIMIT_DROP) {
		a->is_slipped = verdict == LIMIT_SLIP;
		if (a->is_slipped) {
			if (bpf_xdp_adjust_tail(ctx, -(int)body))
				return DNS_REASONS;
			length -= body;
			body = 0;
		} else {
			sum = write_body(ctx, w, a, t);
		}
		if (a->opt)
			opt = write_opt(ctx, w, c, a, body, scope);
		head = write_head(ctx, a, t);
		if (sum < 0 || opt < 0 || !head || !turn(ctx, w, a->sum + sum + opt + head, length))
			return DNS_REASONS;
	} else {
		length = 0;
	}
	if (*(volatile __u64 *)&t->owner != a->hash)
		return DNS_REASONS;
	count_answer(cell, zone);
	if (picked)
		send_sample(ctx, picked, a->message, length);
	return verdict == LIMIT_SEND ? DNS_ANSWERED : verdict == LIMIT_SLIP ? DNS_SLIPPED : DNS_DROPPED;
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
