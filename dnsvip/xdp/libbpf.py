"""Binds libbpf.so.1 through ctypes: the functions in use, their types, and their errors as one exception.

Nothing else calls libbpf but objects.py, maps.py, link.py and btf.py, which wrap it. Knows no packets and no snapshots.
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ctypes import POINTER, Structure, c_bool, c_char_p, c_int, c_int32, c_int64, c_size_t, c_uint32, c_uint64
from ctypes import c_void_p as pointer
from functools import cache
from pathlib import Path
from typing import Any

from dnsvip.errors import PlatformError
from dnsvip.xdp.libbpf_structs import LinkCreateOptions, OpenOptions, TestRunOptions

LIBRARY = "libbpf.so.1"
PACKAGE = "libbpf1"
LOG_LINES = 25
"""Lines from the end of the verifier's log that an error shows."""


class KernelRefused(PlatformError):
    """The kernel (or libbpf) refused an operation; `errno` is the error number."""

    def __init__(self, what: str, number: int, log: str = "") -> None:
        self.errno = number
        self.log = log
        advice = ADVICE.get(number, "")
        tail = "\n".join(line for line in log.splitlines()[-LOG_LINES:] if line.strip())
        super().__init__(
            f"{what}: {os.strerror(number)}" + (f" ({advice})" if advice else "") + (f"\n{tail}" if tail else "")
        )


ADVICE: Mapping[int, str] = {
    errno.EPERM: "needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON: run as root",
    errno.EACCES: "see the verifier's log below, or CAP_BPF is missing",
    errno.EOPNOTSUPP: "the driver has no XDP of this mode",
    errno.E2BIG: "too big for this kernel",
    errno.EBUSY: "another program is attached there",
    errno.ENOMEM: "not enough memory for the maps: use a smaller dispatch.flows",
}


SAMPLE = ctypes.CFUNCTYPE(c_int, pointer, pointer, c_size_t)
"""`ring_buffer_sample_fn`."""
_PRINT = ctypes.CFUNCTYPE(c_int, c_int, c_char_p, pointer)

_ptr_u32 = POINTER(c_uint32)
SIGNATURES: Mapping[str, tuple[Any, tuple[Any, ...]]] = {
    "libbpf_set_print": (pointer, (pointer,)),
    "libbpf_num_possible_cpus": (c_int, ()),
    "bpf_object__open_mem": (pointer, (c_char_p, c_size_t, POINTER(OpenOptions))),
    "bpf_object__load": (c_int, (pointer,)),
    "bpf_object__close": (None, (pointer,)),
    "bpf_object__next_program": (pointer, (pointer, pointer)),
    "bpf_object__next_map": (pointer, (pointer, pointer)),
    "bpf_object__btf": (pointer, (pointer,)),
    "bpf_program__name": (c_char_p, (pointer,)),
    "bpf_program__fd": (c_int, (pointer,)),
    "bpf_program__set_autoload": (c_int, (pointer, c_bool)),
    "bpf_map__name": (c_char_p, (pointer,)),
    "bpf_map__fd": (c_int, (pointer,)),
    "bpf_map__type": (c_int, (pointer,)),
    "bpf_map__key_size": (c_uint32, (pointer,)),
    "bpf_map__value_size": (c_uint32, (pointer,)),
    "bpf_map__map_flags": (c_uint32, (pointer,)),
    "bpf_map__max_entries": (c_uint32, (pointer,)),
    "bpf_map__btf_key_type_id": (c_uint32, (pointer,)),
    "bpf_map__btf_value_type_id": (c_uint32, (pointer,)),
    "bpf_map__set_max_entries": (c_int, (pointer, c_uint32)),
    "bpf_map__initial_value": (pointer, (pointer, POINTER(c_size_t))),
    "bpf_map__reuse_fd": (c_int, (pointer, c_int)),
    "bpf_map_create": (c_int, (c_int, c_char_p, c_uint32, c_uint32, c_uint32, pointer)),
    "bpf_map_lookup_elem": (c_int, (c_int, pointer, pointer)),
    "bpf_map_update_elem": (c_int, (c_int, pointer, pointer, c_uint64)),
    "bpf_map_delete_elem": (c_int, (c_int, pointer)),
    "bpf_map_get_next_key": (c_int, (c_int, pointer, pointer)),
    "bpf_map_update_batch": (c_int, (c_int, pointer, pointer, _ptr_u32, pointer)),
    "bpf_map_lookup_batch": (c_int, (c_int, pointer, pointer, pointer, pointer, _ptr_u32, pointer)),
    "bpf_map_get_fd_by_id": (c_int, (c_uint32,)),
    "bpf_prog_get_fd_by_id": (c_int, (c_uint32,)),
    "bpf_obj_pin": (c_int, (c_int, c_char_p)),
    "bpf_obj_get": (c_int, (c_char_p,)),
    "bpf_obj_get_info_by_fd": (c_int, (c_int, pointer, _ptr_u32)),
    "bpf_prog_test_run_opts": (c_int, (c_int, POINTER(TestRunOptions))),
    "bpf_link_create": (c_int, (c_int, c_int, c_int, POINTER(LinkCreateOptions))),
    "bpf_link_update": (c_int, (c_int, c_int, pointer)),
    "bpf_link_detach": (c_int, (c_int,)),
    "ring_buffer__new": (pointer, (c_int, SAMPLE, pointer, pointer)),
    "ring_buffer__poll": (c_int, (pointer, c_int)),
    "ring_buffer__consume": (c_int, (pointer,)),
    "ring_buffer__epoll_fd": (c_int, (pointer,)),
    "ring_buffer__free": (None, (pointer,)),
    "btf__load_vmlinux_btf": (pointer, ()),
    "btf__free": (None, (pointer,)),
    "btf__type_by_id": (pointer, (pointer, c_uint32)),
    "btf__find_by_name_kind": (c_int32, (pointer, c_char_p, c_uint32)),
    "btf__name_by_offset": (c_char_p, (pointer, c_uint32)),
    "btf__resolve_size": (c_int64, (pointer, c_uint32)),
    "btf__type_cnt": (c_uint32, (pointer,)),
}
"""Function -> result and arguments, as bpf.h, libbpf.h and btf.h declare them."""

_capturing = threading.Lock()
_log: list[str] = []


@cache
def library() -> Any:
    """The loaded library; raises PlatformError where there is none."""
    try:
        loaded = ctypes.CDLL(LIBRARY, use_errno=True)
    except OSError as error:
        raise PlatformError(
            f"no {LIBRARY}, which loads the kernel's programs; as root: apt-get install {PACKAGE}"
        ) from (error)
    for name, (result, arguments) in SIGNATURES.items():
        try:
            function = getattr(loaded, name)
        except AttributeError:
            raise PlatformError(f"{LIBRARY} has no {name}: libbpf 1.1 or newer is needed ({PACKAGE})") from None
        function.restype, function.argtypes = result, arguments
    loaded.libbpf_set_print(ctypes.cast(_print_callback, pointer))
    return loaded


def check(result: int, what: str) -> int:
    """Returns a result that is not negative; raises KernelRefused with errno for others. `what` says what was tried."""
    if result < 0:
        raise KernelRefused(what, ctypes.get_errno() or -result)
    return result


def check_pointer(address: int | None, what: str) -> int:
    """Returns a pointer that is not null; raises KernelRefused."""
    if not address:
        raise KernelRefused(what, ctypes.get_errno())
    return address


@contextmanager
def captured_log() -> Iterator[list[str]]:
    """Captures what libbpf logs while the block runs, the verifier's log included; one thread at a time."""
    with _capturing:
        _log.clear()
        yield _log


def query_info(fd: int, info: Structure) -> None:
    """Fill a structure with the kernel's information about a program, map or link; raises KernelRefused."""
    size = c_uint32(ctypes.sizeof(info))
    check(library().bpf_obj_get_info_by_fd(fd, ctypes.byref(info), ctypes.byref(size)), "querying a BPF object")


def pin(fd: int, path: Path) -> None:
    """Pin a program, map or link in bpffs, so that it outlives the process; raises KernelRefused."""
    check(library().bpf_obj_pin(fd, str(path).encode()), f"pinning {path}")


def open_pin(path: Path) -> int:
    """A new descriptor of the object pinned at `path`; raises KernelRefused."""
    return check(library().bpf_obj_get(str(path).encode()), f"opening {path}")


def _append_log(_: int, form: bytes, arguments: int) -> int:
    """`libbpf_print_fn_t`. A va_list is passed by reference on x86-64 and arm64, as vsnprintf takes it."""
    if _capturing.locked():
        text = ctypes.create_string_buffer(1 << 16)
        _vsnprintf(text, c_size_t(len(text)), c_char_p(form), pointer(arguments))
        _log.append(text.value.decode(errors="replace"))
    return 0


_vsnprintf = ctypes.CDLL(None).vsnprintf
_print_callback = _PRINT(_append_log)
