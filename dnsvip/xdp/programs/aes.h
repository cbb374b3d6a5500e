/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* AES-128 encryption (FIPS 197) by table look-ups, for kernels without AES in hardware: half the time of bpf_crypto there.
 * Like the kernel's aes-generic it may leak the key through the timing of shared caches, so user space decides who uses it
 * (xdp/ciphers.py). Only what FF1 needs: ten blocks that share their first half, and eight bytes of each result. */
#pragma once
#include "types.h"

#define KEY_WORDS 44

/* The round keys of a cipher. */
struct schedule {
	__u32 words[KEY_WORDS];
	__u32 present;
	__u32 unused[3];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_CIPHERS);
	__type(key, __u32);
	__type(value, struct schedule);
} schedules SEC(".maps");

/* SubBytes and MixColumns of a byte in the first row, as a column, twice: shifted right by 8, 16 or 24 bits it is that of the
 * other rows. */
static const __u64 columns[256] = {
	0xc66363a5c66363a5, 0xf87c7c84f87c7c84, 0xee777799ee777799, 0xf67b7b8df67b7b8d,
	0xfff2f20dfff2f20d, 0xd66b6bbdd66b6bbd, 0xde6f6fb1de6f6fb1, 0x91c5c55491c5c554,
	0x6030305060303050, 0x0201010302010103, 0xce6767a9ce6767a9, 0x562b2b7d562b2b7d,
	0xe7fefe19e7fefe19, 0xb5d7d762b5d7d762, 0x4dababe64dababe6, 0xec76769aec76769a,
	0x8fcaca458fcaca45, 0x1f82829d1f82829d, 0x89c9c94089c9c940, 0xfa7d7d87fa7d7d87,
	0xeffafa15effafa15, 0xb25959ebb25959eb, 0x8e4747c98e4747c9, 0xfbf0f00bfbf0f00b,
	0x41adadec41adadec, 0xb3d4d467b3d4d467, 0x5fa2a2fd5fa2a2fd, 0x45afafea45afafea,
	0x239c9cbf239c9cbf, 0x53a4a4f753a4a4f7, 0xe4727296e4727296, 0x9bc0c05b9bc0c05b,
	0x75b7b7c275b7b7c2, 0xe1fdfd1ce1fdfd1c, 0x3d9393ae3d9393ae, 0x4c26266a4c26266a,
	0x6c36365a6c36365a, 0x7e3f3f417e3f3f41, 0xf5f7f702f5f7f702, 0x83cccc4f83cccc4f,
	0x6834345c6834345c, 0x51a5a5f451a5a5f4, 0xd1e5e534d1e5e534, 0xf9f1f108f9f1f108,
	0xe2717193e2717193, 0xabd8d873abd8d873, 0x6231315362313153, 0x2a15153f2a15153f,
	0x0804040c0804040c, 0x95c7c75295c7c752, 0x4623236546232365, 0x9dc3c35e9dc3c35e,
	0x3018182830181828, 0x379696a1379696a1, 0x0a05050f0a05050f, 0x2f9a9ab52f9a9ab5,
	0x0e0707090e070709, 0x2412123624121236, 0x1b80809b1b80809b, 0xdfe2e23ddfe2e23d,
	0xcdebeb26cdebeb26, 0x4e2727694e272769, 0x7fb2b2cd7fb2b2cd, 0xea75759fea75759f,
	0x1209091b1209091b, 0x1d83839e1d83839e, 0x582c2c74582c2c74, 0x341a1a2e341a1a2e,
	0x361b1b2d361b1b2d, 0xdc6e6eb2dc6e6eb2, 0xb45a5aeeb45a5aee, 0x5ba0a0fb5ba0a0fb,
	0xa45252f6a45252f6, 0x763b3b4d763b3b4d, 0xb7d6d661b7d6d661, 0x7db3b3ce7db3b3ce,
	0x5229297b5229297b, 0xdde3e33edde3e33e, 0x5e2f2f715e2f2f71, 0x1384849713848497,
	0xa65353f5a65353f5, 0xb9d1d168b9d1d168, 0x0000000000000000, 0xc1eded2cc1eded2c,
	0x4020206040202060, 0xe3fcfc1fe3fcfc1f, 0x79b1b1c879b1b1c8, 0xb65b5bedb65b5bed,
	0xd46a6abed46a6abe, 0x8dcbcb468dcbcb46, 0x67bebed967bebed9, 0x7239394b7239394b,
	0x944a4ade944a4ade, 0x984c4cd4984c4cd4, 0xb05858e8b05858e8, 0x85cfcf4a85cfcf4a,
	0xbbd0d06bbbd0d06b, 0xc5efef2ac5efef2a, 0x4faaaae54faaaae5, 0xedfbfb16edfbfb16,
	0x864343c5864343c5, 0x9a4d4dd79a4d4dd7, 0x6633335566333355, 0x1185859411858594,
	0x8a4545cf8a4545cf, 0xe9f9f910e9f9f910, 0x0402020604020206, 0xfe7f7f81fe7f7f81,
	0xa05050f0a05050f0, 0x783c3c44783c3c44, 0x259f9fba259f9fba, 0x4ba8a8e34ba8a8e3,
	0xa25151f3a25151f3, 0x5da3a3fe5da3a3fe, 0x804040c0804040c0, 0x058f8f8a058f8f8a,
	0x3f9292ad3f9292ad, 0x219d9dbc219d9dbc, 0x7038384870383848, 0xf1f5f504f1f5f504,
	0x63bcbcdf63bcbcdf, 0x77b6b6c177b6b6c1, 0xafdada75afdada75, 0x4221216342212163,
	0x2010103020101030, 0xe5ffff1ae5ffff1a, 0xfdf3f30efdf3f30e, 0xbfd2d26dbfd2d26d,
	0x81cdcd4c81cdcd4c, 0x180c0c14180c0c14, 0x2613133526131335, 0xc3ecec2fc3ecec2f,
	0xbe5f5fe1be5f5fe1, 0x359797a2359797a2, 0x884444cc884444cc, 0x2e1717392e171739,
	0x93c4c45793c4c457, 0x55a7a7f255a7a7f2, 0xfc7e7e82fc7e7e82, 0x7a3d3d477a3d3d47,
	0xc86464acc86464ac, 0xba5d5de7ba5d5de7, 0x3219192b3219192b, 0xe6737395e6737395,
	0xc06060a0c06060a0, 0x1981819819818198, 0x9e4f4fd19e4f4fd1, 0xa3dcdc7fa3dcdc7f,
	0x4422226644222266, 0x542a2a7e542a2a7e, 0x3b9090ab3b9090ab, 0x0b8888830b888883,
	0x8c4646ca8c4646ca, 0xc7eeee29c7eeee29, 0x6bb8b8d36bb8b8d3, 0x2814143c2814143c,
	0xa7dede79a7dede79, 0xbc5e5ee2bc5e5ee2, 0x160b0b1d160b0b1d, 0xaddbdb76addbdb76,
	0xdbe0e03bdbe0e03b, 0x6432325664323256, 0x743a3a4e743a3a4e, 0x140a0a1e140a0a1e,
	0x924949db924949db, 0x0c06060a0c06060a, 0x4824246c4824246c, 0xb85c5ce4b85c5ce4,
	0x9fc2c25d9fc2c25d, 0xbdd3d36ebdd3d36e, 0x43acacef43acacef, 0xc46262a6c46262a6,
	0x399191a8399191a8, 0x319595a4319595a4, 0xd3e4e437d3e4e437, 0xf279798bf279798b,
	0xd5e7e732d5e7e732, 0x8bc8c8438bc8c843, 0x6e3737596e373759, 0xda6d6db7da6d6db7,
	0x018d8d8c018d8d8c, 0xb1d5d564b1d5d564, 0x9c4e4ed29c4e4ed2, 0x49a9a9e049a9a9e0,
	0xd86c6cb4d86c6cb4, 0xac5656faac5656fa, 0xf3f4f407f3f4f407, 0xcfeaea25cfeaea25,
	0xca6565afca6565af, 0xf47a7a8ef47a7a8e, 0x47aeaee947aeaee9, 0x1008081810080818,
	0x6fbabad56fbabad5, 0xf0787888f0787888, 0x4a25256f4a25256f, 0x5c2e2e725c2e2e72,
	0x381c1c24381c1c24, 0x57a6a6f157a6a6f1, 0x73b4b4c773b4b4c7, 0x97c6c65197c6c651,
	0xcbe8e823cbe8e823, 0xa1dddd7ca1dddd7c, 0xe874749ce874749c, 0x3e1f1f213e1f1f21,
	0x964b4bdd964b4bdd, 0x61bdbddc61bdbddc, 0x0d8b8b860d8b8b86, 0x0f8a8a850f8a8a85,
	0xe0707090e0707090, 0x7c3e3e427c3e3e42, 0x71b5b5c471b5b5c4, 0xcc6666aacc6666aa,
	0x904848d8904848d8, 0x0603030506030305, 0xf7f6f601f7f6f601, 0x1c0e0e121c0e0e12,
	0xc26161a3c26161a3, 0x6a35355f6a35355f, 0xae5757f9ae5757f9, 0x69b9b9d069b9b9d0,
	0x1786869117868691, 0x99c1c15899c1c158, 0x3a1d1d273a1d1d27, 0x279e9eb9279e9eb9,
	0xd9e1e138d9e1e138, 0xebf8f813ebf8f813, 0x2b9898b32b9898b3, 0x2211113322111133,
	0xd26969bbd26969bb, 0xa9d9d970a9d9d970, 0x078e8e89078e8e89, 0x339494a7339494a7,
	0x2d9b9bb62d9b9bb6, 0x3c1e1e223c1e1e22, 0x1587879215878792, 0xc9e9e920c9e9e920,
	0x87cece4987cece49, 0xaa5555ffaa5555ff, 0x5028287850282878, 0xa5dfdf7aa5dfdf7a,
	0x038c8c8f038c8c8f, 0x59a1a1f859a1a1f8, 0x0989898009898980, 0x1a0d0d171a0d0d17,
	0x65bfbfda65bfbfda, 0xd7e6e631d7e6e631, 0x844242c6844242c6, 0xd06868b8d06868b8,
	0x824141c3824141c3, 0x299999b0299999b0, 0x5a2d2d775a2d2d77, 0x1e0f0f111e0f0f11,
	0x7bb0b0cb7bb0b0cb, 0xa85454fca85454fc, 0x6dbbbbd66dbbbbd6, 0x2c16163a2c16163a,
};

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "`column` turns an entry by where it begins to read");

/* The table in a register: else clang loads its address, ten bytes of code, for each of 1,500 look-ups. */
static __always_inline const char *aes_table(void)
{
	const char *table = (const char *)columns;

	opaque(table);
	return table;
}

/* The column of the byte of a word that begins at a bit, in a row: one load, in place of a load and a shift, and the table
 * added to the index, in place of the index to a copy of the table: which is what clang makes of it. */
static __always_inline __u32 column(const char *table, __u32 word, __u32 bit, __u32 row)
{
	__u64 entry = (bit ? word >> (bit - 3) : word << 3) & 255 * sizeof(*columns);

	asm("%[entry] += %[table]\n%[entry] = *(u32 *)(%[entry] + %[row])"
	    : [entry] "+r"(entry) : [table] "r"(table), [row] "i"(row));
	return entry;
}

/* SubBytes of the byte of a word that begins at a bit. */
static __always_inline __u32 substituted(const char *table, __u32 word, __u32 bit)
{
	return *(const __u8 *)(table + 1 + ((bit ? word >> (bit - 3) : word << 3) & 255 * sizeof(*columns)));
}

/* What the first half of a block, which stays, adds to the state after the first round. */
struct half {
	__u32 state[4];
};

static __always_inline void first_half(struct half *h, const char *table, const __u32 *key, __u64 block_hi)
{
	__u32 s0 = block_hi >> 32 ^ key[0], s1 = (__u32)block_hi ^ key[1];

	h->state[0] = key[4] ^ column(table, s0, 24, 0) ^ column(table, s1, 16, 1);
	h->state[1] = key[5] ^ column(table, s1, 24, 0) ^ column(table, s0, 0, 3);
	h->state[2] = key[6] ^ column(table, s0, 8, 2) ^ column(table, s1, 0, 3);
	h->state[3] = key[7] ^ column(table, s0, 16, 1) ^ column(table, s1, 8, 2);
}

/* Bytes 4 to 11 of the encryption of a block, whose second half is given; or only 4 to 7, where no `more` are asked for. */
static __always_inline __u64 encrypted_middle(const struct half *h, const char *table, const __u32 *key,
					      __u64 block_lo, int more)
{
	__u32 s2, s3, a, b, c, d, t0, t1, t2, t3;
	int round;

	opaque(key); /* else clang keeps what all blocks read on the stack, which is too small for it */
	opaque(h);
	s2 = block_lo >> 32 ^ key[2];
	s3 = (__u32)block_lo ^ key[3];
	a = h->state[0] ^ column(table, s2, 8, 2) ^ column(table, s3, 0, 3);
	b = h->state[1] ^ column(table, s2, 16, 1) ^ column(table, s3, 8, 2);
	c = h->state[2] ^ column(table, s2, 24, 0) ^ column(table, s3, 16, 1);
	d = h->state[3] ^ column(table, s3, 24, 0) ^ column(table, s2, 0, 3);
#pragma clang loop unroll(disable)
	for (round = 8; round < KEY_WORDS - 4; round += 4) {
		t0 = key[round] ^ column(table, a, 24, 0) ^ column(table, b, 16, 1) ^
		     column(table, c, 8, 2) ^ column(table, d, 0, 3);
		t1 = key[round + 1] ^ column(table, b, 24, 0) ^ column(table, c, 16, 1) ^
		     column(table, d, 8, 2) ^ column(table, a, 0, 3);
		t2 = key[round + 2] ^ column(table, c, 24, 0) ^ column(table, d, 16, 1) ^
		     column(table, a, 8, 2) ^ column(table, b, 0, 3);
		t3 = key[round + 3] ^ column(table, d, 24, 0) ^ column(table, a, 16, 1) ^
		     column(table, b, 8, 2) ^ column(table, c, 0, 3);
		a = t0;
		b = t1;
		c = t2;
		d = t3;
	}
	t1 = substituted(table, b, 24) << 24 | substituted(table, c, 16) << 16 |
	     substituted(table, d, 8) << 8 | substituted(table, a, 0);
	if (!more)
		return t1 ^ key[KEY_WORDS - 3];
	t2 = substituted(table, c, 24) << 24 | substituted(table, d, 16) << 16 |
	     substituted(table, a, 8) << 8 | substituted(table, b, 0);
	return (__u64)(t1 ^ key[KEY_WORDS - 3]) << 32 | (t2 ^ key[KEY_WORDS - 2]);
}

/* Expands a key of 16 bytes (FIPS 197 section 5.2). */
static __always_inline void expand_key(struct schedule *s, const __u8 *key)
{
	const char *table = aes_table();
	__u32 constant = 1, word;
	int n;

	for (n = 0; n < 4; n++)
		s->words[n] = (__u32)key[4 * n] << 24 | key[4 * n + 1] << 16 | key[4 * n + 2] << 8 | key[4 * n + 3];
#pragma clang loop unroll(disable)
	for (n = 4; n < KEY_WORDS; n++) {
		word = s->words[n - 1];
		if (!(n & 3)) {
			word = substituted(table, word, 16) << 24 | substituted(table, word, 8) << 16 |
	     substituted(table, word, 0) << 8 |
			       substituted(table, word, 24);
			word ^= constant << 24;
			constant = constant << 1 ^ (constant & 128 ? 0x11b : 0);
		}
		s->words[n] = s->words[n - 4] ^ word;
	}
}
