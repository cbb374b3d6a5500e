/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* DNS cookies (RFC 7873, RFC 9018): verified and made as dnsvip/dns/protection/cookies.py does. */
#pragma once
#include "dns_maps.h"
#include "siphash.h"

#define COOKIE_CODE 10
#define CLIENT_COOKIE 8
#define WHOLE_COOKIE 24
#define COOKIE_OLDEST 3600 /* ages in seconds */
#define COOKIE_NEWEST (-300)
#define COOKIE_RENEWED 1800
#define COOKIE_SPAN 128 /* all cookies of so many seconds are judged and made by the first of them */

/* The option of a server's cookie (RFC 9018 section 4). */
struct cookie {
	__be16 code;
	__be16 length;
	__u64 client;
	__u8 version;
	__u8 reserved[3];
	__be32 time;
	__u64 hash;
} __attribute__((packed));

enum cookie_verdict { COOKIE_INVALID, COOKIE_VALID, COOKIE_CURRENT };

static __always_inline __u32 cookie_moment(const struct dns_work *w)
{
	return (__u32)w->unix_seconds & ~(COOKIE_SPAN - 1);
}

/* The hash of a cookie for the source of a packet. */
static __noinline __u64 cookie_hash(const struct flow_key *key, const __u64 *secret, __u64 client, __u64 server)
{
	struct sip s;

	sip_start(&s, secret[0], secret[1]);
	sip_word(&s, __le64_to_cpu(client));
	sip_word(&s, __le64_to_cpu(server));
	if (key->version == 4)
		return sip_end(&s, __le64_to_cpu(key->source[1]) >> 32 | 20ULL << 56);
	sip_word(&s, __le64_to_cpu(key->source[0]));
	sip_word(&s, __le64_to_cpu(key->source[1]));
	return sip_end(&s, 32ULL << 56);
}

/* What a whole cookie proves; where it is current, the answer has the same. */
static __always_inline enum cookie_verdict judge_cookie(const struct dns_work *w, const struct dns_config *c,
							const struct cookie *cookie)
{
	__s32 age = (__s32)(cookie_moment(w) - bpf_ntohl(cookie->time));
	__u64 server = *(const __u64 *)&cookie->version;
	__u32 n;

	if (cookie->version != 1 || age < COOKIE_NEWEST || age > COOKIE_OLDEST)
		return COOKIE_INVALID;
#pragma clang loop unroll(disable)
	for (n = 0; n < MAX_SECRETS; n++) {
		if (n >= c->secrets)
			break;
		if (cookie_hash(&w->packet.key, c->secret[n], cookie->client, server) == __le64_to_cpu(cookie->hash))
			return n || age >= COOKIE_RENEWED ? COOKIE_VALID : COOKIE_CURRENT;
	}
	return COOKIE_INVALID;
}

/* Makes a whole option of one that has a client's cookie. */
static __always_inline void make_cookie(const struct dns_work *w, const struct dns_config *c, struct cookie *cookie)
{
	cookie->length = bpf_htons(WHOLE_COOKIE);
	cookie->version = 1;
	__builtin_memset(cookie->reserved, 0, sizeof(cookie->reserved));
	cookie->time = bpf_htonl(cookie_moment(w));
	cookie->hash = cookie_hash(&w->packet.key, c->secret[0], cookie->client, *(__u64 *)&cookie->version);
	cookie->hash = __cpu_to_le64(cookie->hash);
}
