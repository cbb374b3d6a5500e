"""How much of the random tests runs: a sample in `make test`, all of it with DNSVIP_LONG in the environment."""

from __future__ import annotations

import os

LONG = bool(os.environ.get("DNSVIP_LONG"))


def long_or(sample: int, *, long: int) -> int:
    """The size of a random test: `long` with DNSVIP_LONG, else `sample`."""
    return long if LONG else sample
