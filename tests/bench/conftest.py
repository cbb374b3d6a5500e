"""Fixtures of the bench's own tests."""

from tests.xdp.conftest import kernel

__all__ = ["kernel"]
