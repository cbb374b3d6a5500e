/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The only bounds check on packet bytes there is. All offsets count from the frame's first byte. */
#pragma once
#include "types.h"

#define MAX_OFFSET 0x3fff

/* `size` bytes (a constant) at an offset of the frame; NULL where they are not there. */
static __always_inline void *bytes_at(struct xdp_md *ctx, __u32 offset, __u32 size)
{
	void *data, *end;

	if (offset > MAX_OFFSET)
		return NULL;
	opaque(offset);
	data = (void *)(long)ctx->data + (offset & MAX_OFFSET);
	end = (void *)(long)ctx->data_end;
	return data + size > end ? NULL : data;
}

static __always_inline __u32 frame_length(struct xdp_md *ctx)
{
	long length = (void *)(long)ctx->data_end - (void *)(long)ctx->data;

	opaque(length); /* else clang subtracts 32-bit halves of pointers, which the verifier forbids */
	return length;
}
