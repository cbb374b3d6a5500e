"""What tests need of the kernel."""

from __future__ import annotations

import os

import pytest


@pytest.fixture
def kernel() -> None:
    """Skips the test where programs cannot be loaded: only root may."""
    if os.geteuid() != 0:
        pytest.skip("loading kernel programs needs root")
