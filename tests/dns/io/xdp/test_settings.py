"""Settings of the node file that do not go together with answers in the kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from dnsvip.errors import ConfigError
from dnsvip.site.io.files import load_node

NODE = """
database = "sqlite:///site.db"
[dns]
xdp = { interface = "eth0" }
"""


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('[dispatch]\nmode = "xdp"\ninterface = "eth0"\npins = "/p"', "dns.xdp.pins: differs from dispatch.pins"),
        (
            '[dispatch]\nmode = "xdp"\ninterface = "eth0"\ngeneric = true',
            "dns.xdp.generic: differs from dispatch.generic",
        ),
    ],
)
def test_refused(tmp_path: Path, more: str, said: str) -> None:
    """What cannot work is refused with a line that says what to change."""
    (tmp_path / "node.toml").write_text(NODE + more)
    with pytest.raises(ConfigError, match=said):
        load_node(tmp_path / "node.toml")


@pytest.mark.parametrize(
    "more",
    [
        "",
        '[dispatch]\nmode = "xdp"\ninterface = "eth0"',
        '[dispatch]\nmode = "xdp"\ninterface = "eth1"\ngeneric = true',
        '[dispatch]\nmode = "user"\ninterface = "eth0"',
        "rate_limit = { responses_per_second = 5 }",
        '[log]\nqueries = { file = "q" }\ndnstap = { receiver = "unix:d" }\nflows = { file = "f" }',
    ],
)
def test_accepted(tmp_path: Path, more: str) -> None:
    """A dispatcher may have the same interface, another, or be in user space; rates are limited and queries logged."""
    (tmp_path / "node.toml").write_text(NODE + more)
    assert load_node(tmp_path / "node.toml").dns.xdp is not None
