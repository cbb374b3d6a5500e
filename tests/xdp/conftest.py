"""Fixtures of tests that load programs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def kernel() -> None:
    """Skips the test where programs cannot be loaded: only root may."""
    if os.geteuid() != 0:
        pytest.skip("loading kernel programs needs root")


@pytest.fixture
def bpffs(kernel: None, tmp_path: Path) -> Iterator[Path]:
    """A BPF file system of the test's own, unmounted with all pins afterwards."""
    folder = tmp_path / "bpffs"
    folder.mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)
