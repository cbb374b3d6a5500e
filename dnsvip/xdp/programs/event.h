/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* A packet and its verdict, sent to user space: sampled, or because its address or client is watched. */
#pragma once
#include "packet.h"

struct event {
	__u64 time; /* unix nanoseconds */
	struct flow_key key;
	__u64 client; /* 0: anonymous or unknown */
	__u32 server; /* number; NONE */
	__u32 length; /* of the frame, in bytes */
	__u8 reason;
	__u8 action;
	__u8 mode;
	__u8 flags; /* TCP flags */
	__u8 watched;
	__u8 unused[3];
};

enum watch_kind { WATCH_ADDRESS, WATCH_CLIENT };

struct watch {
	__u32 kind;
	__u32 zero;
	__be64 value[2]; /* an address, IPv4 in its last four bytes; or 0 and a client id */
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 262144);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, struct watch);
	__type(value, __u32);
} watches SEC(".maps");
