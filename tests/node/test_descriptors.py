"""How file descriptors are divided between DNS, API and metrics."""

from __future__ import annotations

from pathlib import Path

import pytest

from dnsvip.node.descriptors import LEAST, OWN, Shares, divided, wanted
from dnsvip.site.node_file import build_node
from tests.node.serving import node

ASKED = Shares(1000, 1024, 64)


def test_all_have_what_they_ask_for_where_it_fits() -> None:
    """A limit of the sum leaves every share whole."""
    assert divided(ASKED, ASKED.descriptors) == ASKED


@pytest.mark.parametrize("descriptors", [256, 512, 1024, 2000])
def test_dns_keeps_its_share(descriptors: int) -> None:
    """With fewer, what is given out fits, and most of it is for DNS."""
    shares = divided(ASKED, descriptors)
    assert shares.descriptors <= max(descriptors, OWN + 3 * LEAST)
    assert shares.dns > shares.api >= LEAST


def test_workers_have_limits_of_their_own(tmp_path: Path) -> None:
    """With several DNS workers the process of the API holds no DNS connections."""
    tables = {"database": "sqlite:///x", "dns": {"workers": 2}, "admin": {"limits": {"connections": 50}}}
    assert wanted(build_node(tables, tmp_path / "node.toml")) == Shares(0, 50, 0)


def test_the_kernels_share(tmp_path: Path) -> None:
    """The arrays of a DNS program have their descriptors before connections do; more prefixes take more."""
    tables = {"database": "sqlite:///x", "dns": {"xdp": {"interface": "lo", "prefixes": 1 << 20}}}
    asked = wanted(build_node(tables, tmp_path / "node.toml"))
    assert asked.kernel > 2000
    shares = divided(asked, asked.kernel + 512)
    assert shares.kernel == asked.kernel
    assert shares.descriptors <= asked.kernel + 512


def test_a_low_limit_is_said(tmp_path: Path) -> None:
    """A node that may open too few descriptors says at its start what would be right, and answers."""
    with node(tmp_path) as served:
        served.apply()
        served.start("--token-file", "token", descriptors=512)
        (warning,) = [event for event in served.events() if event["level"] == "warning"]
        assert warning["api"] < warning["dns"] < 512
        assert "LimitNOFILE=2152" in warning["mend"]
        assert served.dig("AAAA", "www.example.test")
