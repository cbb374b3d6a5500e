/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Reads a DNS question off a frame: the headers down to UDP, name and type, the OPT record with ECS and cookie. What the
 * fast path would not recognize (dnsvip/dns/hotpath/recognize.py) is not read. */
#pragma once
#include "dns_cookies.h"
#include "dns_sums.h"
#include "parse.h"

#define QUESTION 12 /* offset in a message */
#define OPT_FIXED 11
#define OPTION_FIXED 4
#define ECS_FIXED 8
#define ECS_CODE 8
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
