/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* AES contexts (bpf_crypto) by number. MAX_CIPHERS is how many a program has. */
#pragma once
#include "types.h"

/* As in the kernel; only the type's name matters here. */
struct bpf_crypto_ctx {
	__u32 siv_len;
} __attribute__((preserve_access_index));

extern int bpf_crypto_encrypt(struct bpf_crypto_ctx *ctx, const struct bpf_dynptr *source,
			      const struct bpf_dynptr *destination, const struct bpf_dynptr *siv) __ksym;

struct cipher {
	struct bpf_crypto_ctx __kptr *context; /* ecb(aes) */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_CIPHERS);
	__type(key, __u32);
	__type(value, struct cipher);
} ciphers SEC(".maps");
