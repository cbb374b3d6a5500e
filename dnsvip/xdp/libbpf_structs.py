"""The C structures that libbpf and the kernel take and fill, as bpf.h, libbpf.h and linux/bpf.h declare them.

Those of our own programs are not here: `structs.py` reads their layout from the compiled object.
"""

from __future__ import annotations

from ctypes import Structure, c_bool, c_char, c_char_p, c_int, c_size_t, c_uint32, c_uint64
from ctypes import c_void_p as pointer


class TestRunOptions(Structure):
    """`struct bpf_test_run_opts`."""

    _fields_ = (
        ("sz", c_size_t),
        ("data_in", pointer),
        ("data_out", pointer),
        ("data_size_in", c_uint32),
        ("data_size_out", c_uint32),
        ("ctx_in", pointer),
        ("ctx_out", pointer),
        ("ctx_size_in", c_uint32),
        ("ctx_size_out", c_uint32),
        ("retval", c_uint32),
        ("repeat", c_int),
        ("duration", c_uint32),
        ("flags", c_uint32),
        ("cpu", c_uint32),
        ("batch_size", c_uint32),
    )


class OpenOptions(Structure):
    """The used part of `struct bpf_object_open_opts`; `sz` tells libbpf where it ends."""

    _fields_ = (
        ("sz", c_size_t),
        ("object_name", c_char_p),
        ("relaxed_maps", c_bool),
        ("pin_root_path", c_char_p),
        ("reserved", c_uint32),
        ("kconfig", c_char_p),
        ("btf_custom_path", c_char_p),
    )


class MapCreateOptions(Structure):
    """`struct bpf_map_create_opts`."""

    _fields_ = (
        ("sz", c_size_t),
        ("btf_fd", c_uint32),
        ("btf_types", c_uint32 * 3),
        ("inner_map_fd", c_uint32),
        ("map_flags", c_uint32),
        ("map_extra", c_uint64),
        ("numa_node", c_uint32),
        ("map_ifindex", c_uint32),
    )


class LinkCreateOptions(Structure):
    """The used part of `struct bpf_link_create_opts`."""

    _fields_ = (
        ("sz", c_size_t),
        ("flags", c_uint32),
        ("iter_info", pointer),
        ("iter_info_len", c_uint32),
        ("target_btf_id", c_uint32),
    )


class ProgramInfo(Structure):
    """`struct bpf_prog_info` (linux/bpf.h), up to the figures of bpf_stats."""

    _fields_ = (
        ("type", c_uint32),
        ("id", c_uint32),
        ("tag", c_char * 8),
        ("lengths", c_uint32 * 2),
        ("instructions", c_uint64 * 2),
        ("load_time", c_uint64),
        ("created_by_uid", c_uint32),
        ("nr_map_ids", c_uint32),
        ("map_ids", c_uint64),
        ("name", c_char * 16),
        ("ifindex", c_uint32),
        ("bits", c_uint32),
        ("netns_dev", c_uint64),
        ("netns_ino", c_uint64),
        ("counts", c_uint32 * 2),
        ("symbols", c_uint64 * 2),
        ("btf_id", c_uint32),
        ("func_info_rec_size", c_uint32),
        ("func_info", c_uint64),
        ("nr_info", c_uint32 * 2),
        ("line_info", c_uint64 * 2),
        ("record_sizes", c_uint32 * 3),
        ("nr_prog_tags", c_uint32),
        ("prog_tags", c_uint64),
        ("run_time_ns", c_uint64),
        ("run_cnt", c_uint64),
        ("recursion_misses", c_uint64),
        ("verified_insns", c_uint32),
        ("attach", c_uint32 * 2),
        ("padding", c_uint32),
    )


class MapInfo(Structure):
    """`struct bpf_map_info` (linux/bpf.h)."""

    _fields_ = (
        ("type", c_uint32),
        ("id", c_uint32),
        ("key_size", c_uint32),
        ("value_size", c_uint32),
        ("max_entries", c_uint32),
        ("map_flags", c_uint32),
        ("name", c_char * 16),
        ("ifindex", c_uint32),
        ("vmlinux_value_type", c_uint32),
        ("netns_dev", c_uint64),
        ("netns_ino", c_uint64),
        ("btf_id", c_uint32),
        ("btf_key_type_id", c_uint32),
        ("btf_value_type_id", c_uint32),
        ("padding", c_uint32),
        ("map_extra", c_uint64),
    )


class LinkInfo(Structure):
    """`struct bpf_link_info` (linux/bpf.h) of an XDP link."""

    _fields_ = (
        ("type", c_uint32),
        ("id", c_uint32),
        ("prog_id", c_uint32),
        ("padding", c_uint32),
        ("ifindex", c_uint32),
        ("rest", c_uint32 * 7),
    )
