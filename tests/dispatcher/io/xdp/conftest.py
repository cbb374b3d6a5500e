"""Fixtures of the loader's tests that the program's tests use too."""

from tests.xdp.conftest import kernel

__all__ = ["kernel"]
