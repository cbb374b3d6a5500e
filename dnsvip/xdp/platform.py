"""Checks that this machine can run the kernel programs, before anything is changed, and says what to do where it
cannot."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterable
from pathlib import Path

from dnsvip.errors import PlatformError
from dnsvip.xdp.btf import FUNCTION, Btf
from dnsvip.xdp.libbpf import library
from dnsvip.xdp.objects import object_file

LEAST_KERNEL = (6, 10)
"""The first with cryptography for programs (bpf_crypto)."""
FUNCTIONS = ("bpf_crypto_ctx_create", "bpf_crypto_ctx_acquire", "bpf_crypto_ctx_release", "bpf_crypto_encrypt")
"""Kernel functions that the programs call."""
WHAT, INSTEAD = 'mode = "xdp"', 'or use mode = "user" in [dispatch]'
"""What needs all this, by default, and what else can be done."""
CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_PERFMON": 38, "CAP_BPF": 39}
CAP_SYS_ADMIN = 21
BPFFS_MAGIC = 0xCAFE4A11
"""f_type of a BPF file system (linux/magic.h)."""


def check_platform(
    program: str, pins: Path, *, what: str = WHAT, instead: str = INSTEAD, functions: Iterable[str] = FUNCTIONS
) -> None:
    """Raise PlatformError with what `program`, of a setting `what`, lacks and the remedy; changes nothing."""
    check_kernel(os.uname().release, what, instead)
    check_capabilities(Path("/proc/self/status").read_text(), what, instead)
    object_file(program)
    library()
    check_functions(functions)
    check_pins(pins)


def check_kernel(release: str, what: str = WHAT, instead: str = INSTEAD) -> None:
    """Raise PlatformError for a kernel release (as in `uname -r`) that is too old."""
    version = re.match(r"(\d+)\.(\d+)", release)
    if version is None or (int(version[1]), int(version[2])) < LEAST_KERNEL:
        least = ".".join(map(str, LEAST_KERNEL))
        raise PlatformError(f"{what} needs Linux {least} or newer, this is {release}: boot a newer one, {instead}")


def check_capabilities(status: str, what: str = WHAT, instead: str = INSTEAD) -> None:
    """Raise PlatformError where the process (its /proc/PID/status) may not load and attach programs."""
    effective = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    mask = int(effective[1], 16) if effective else 0
    missing = [] if mask >> CAP_SYS_ADMIN & 1 else [name for name, bit in CAPABILITIES.items() if not mask >> bit & 1]
    if missing:
        raise PlatformError(f"{what} needs {', '.join(missing)}: run as root, {instead}")


def check_functions(names: Iterable[str]) -> None:
    """Raise PlatformError where the kernel lacks a function that programs call."""
    kernel = Btf.of_kernel()
    missing = [name for name in names if not kernel.has(name, FUNCTION)]
    kernel.close()
    if missing:
        raise PlatformError(
            f"{WHAT}: this kernel has no {', '.join(missing)}: it needs CONFIG_CRYPTO and "
            f"CONFIG_CRYPTO_ECB (bpf_crypto), {INSTEAD}"
        )


def check_pins(folder: Path) -> None:
    """Raise PlatformError where `folder` (or its nearest parent that exists) is not in a BPF file system."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if _file_system(existing) != BPFFS_MAGIC:
        raise PlatformError(
            f"{folder}: no BPF file system, which keeps the data plane while no process runs: "
            f"mount -t bpf bpf {folder if folder.exists() else folder.parent}, or name another by dispatch.pins"
        )


def _file_system(path: Path) -> int:
    """f_type of statfs(2): the first word of the structure on every 64-bit Linux."""
    result = (ctypes.c_long * 32)()
    if ctypes.CDLL(None, use_errno=True).statfs(str(path).encode(), ctypes.byref(result)) != 0:
        return 0
    return result[0] & 0xFFFF_FFFF
