/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Stands for the servers of a flood: drops and counts the IPv6 packets of one source, and passes all others. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define SOURCE (ETH_HLEN + 8)

struct sunk {
	__u64 source[2];
	__u64 count;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sunk);
} sinks SEC(".maps");

SEC("xdp")
int sink(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)ctx->data;
	__u32 zero = 0;
	struct sunk *sunk = bpf_map_lookup_elem(&sinks, &zero);

	if (!sunk || (void *)(data + SOURCE + 16) > (void *)(long)ctx->data_end)
		return XDP_PASS;
	if (((struct ethhdr *)data)->h_proto != bpf_htons(ETH_P_IPV6) ||
	    __builtin_memcmp(data + SOURCE, sunk->source, sizeof(sunk->source)))
		return XDP_PASS;
	__sync_fetch_and_add(&sunk->count, 1);
	return XDP_DROP;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
