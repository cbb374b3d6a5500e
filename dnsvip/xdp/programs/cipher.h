/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Creates the AES contexts that FF1 uses, which only a sleepable program may do. Called by map_writer.py. */
#pragma once
#include "aes.h"
#include "ciphers.h"

struct bpf_crypto_params {
	char type[14];
	__u8 reserved[2];
	char algo[128];
	__u8 key[256];
	__u32 key_len;
	__u32 authsize;
};

extern struct bpf_crypto_ctx *bpf_crypto_ctx_create(const struct bpf_crypto_params *params, __u32 params__sz,
						    int *err) __ksym;
extern void bpf_crypto_ctx_release(struct bpf_crypto_ctx *ctx) __ksym;

struct cipher_order {
	__u32 number; /* in map `ciphers` */
	__u32 remove; /* remove it instead */
	__u8 key[16];
	__u32 faster; /* take the faster AES of the kernel, see ciphers.py */
	__u32 tables; /* use tables instead of the kernel's */
};

SEC("syscall")
int set_cipher(struct cipher_order *order)
{
	struct bpf_crypto_params params = {.type = "skcipher", .algo = "ecb(aes)", .key_len = 16};
	struct bpf_crypto_ctx *context = NULL;
	__u32 number = order->number;
	struct cipher *cipher = bpf_map_lookup_elem(&ciphers, &number);
	struct schedule *schedule = bpf_map_lookup_elem(&schedules, &number);
	int fault = 0;

	if (!cipher || !schedule)
		return -1;
	__builtin_memset(schedule, 0, sizeof(*schedule)); /* a key that was removed is not left in a pinned map */
	if (!order->remove && order->tables) {
		expand_key(schedule, order->key);
		schedule->present = 1;
	} else if (!order->remove) {
		__builtin_memcpy(params.key, order->key, 16);
		if (order->faster)
			__builtin_memcpy(params.algo, "ecb(aes-generic)", sizeof("ecb(aes-generic)"));
		context = bpf_crypto_ctx_create(&params, sizeof(params), &fault);
		if (!context)
			return fault;
	}
	context = bpf_kptr_xchg(&cipher->context, context);
	if (context)
		bpf_crypto_ctx_release(context);
	return 0;
}
