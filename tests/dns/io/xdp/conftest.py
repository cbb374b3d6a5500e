"""Fixtures of the loader's tests that this program's tests use too."""

from tests.xdp.conftest import bpffs, kernel

__all__ = ["bpffs", "kernel"]
