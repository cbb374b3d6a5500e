"""What a machine lacks is named together with the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from dnsvip.errors import PlatformError
from dnsvip.xdp.platform import check_capabilities, check_functions, check_kernel, check_pins, check_platform


@pytest.mark.parametrize("release", ["6.1.0-13-amd64", "6.9.12", "5.15.0", "odd"])
def test_old_kernel(release: str) -> None:
    """A kernel before 6.10 is refused by name."""
    with pytest.raises(PlatformError, match=f"6.10 or newer, this is {release}"):
        check_kernel(release)


@pytest.mark.parametrize("release", ["6.10.0", "6.18.44-fc", "7.0-rc1", "10.2.3"])
def test_new_kernel(release: str) -> None:
    """6.10 and newer are accepted."""
    check_kernel(release)


@pytest.mark.parametrize(
    ("mask", "missing"),
    [
        ("0000000000000000", "CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF"),
        ("0000000000001000", "CAP_PERFMON, CAP_BPF"),
        ("000000c000000000", "CAP_NET_ADMIN"),
    ],
)
def test_missing_capability(mask: str, missing: str) -> None:
    """Missing capabilities are named."""
    with pytest.raises(PlatformError, match=f"needs {missing}: run as root"):
        check_capabilities(f"Name:\tx\nCapEff:\t{mask}\n")


@pytest.mark.parametrize("mask", ["000000c000001000", "000001ffffffffff", "0000000000200000"])
def test_enough_capabilities(mask: str) -> None:
    """The three, all, or CAP_SYS_ADMIN are enough."""
    check_capabilities(f"Name:\tx\nCapEff:\t{mask}\n")


def test_missing_kernel_function(kernel: None) -> None:
    """A kernel without a function is refused, naming the function and the kernel option."""
    with pytest.raises(PlatformError, match="has no bpf_no_such_function: it needs CONFIG_CRYPTO"):
        check_functions(["bpf_no_such_function"])


def test_no_bpf_file_system(tmp_path: Path) -> None:
    """A folder on another file system is refused with the command that mounts one."""
    with pytest.raises(PlatformError, match=f"mount -t bpf bpf {tmp_path}"):
        check_pins(tmp_path / "dnsvip")


def test_this_machine(bpffs: Path) -> None:
    """The machine that runs the tests qualifies."""
    check_platform("empty", bpffs / "dnsvip")
