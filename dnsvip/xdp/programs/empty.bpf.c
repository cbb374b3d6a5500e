// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* The smallest XDP program. It is the unit E of the bench (every figure is a multiple of its cost), and it is
 * attached to the far end of a veth pair, which takes redirected packets only with a program there. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int dnsvip_empty(struct xdp_md *context)
{
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual MIT/GPL";
