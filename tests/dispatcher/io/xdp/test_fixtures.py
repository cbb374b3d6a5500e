"""One set of packets as data (tests/fixtures/dispatch.json), with the verdicts of reference and kernel."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.reason import REASONS
from dnsvip.dispatcher.token_bucket import SECOND
from tests.dispatcher.io.xdp.kernel import Kernel, Reference, Seen, loaded
from tests.samples import NOW, make_snapshot

FIXTURES = json.loads((Path(__file__).parents[3] / "fixtures" / "dispatch.json").read_text())
CASES = [pytest.param(case["steps"], id=case["description"]) for case in FIXTURES["cases"]]
ELSEWHERE = {
    *("no-nat-port", "replay-table-full", "reselected", "revoked", "failed"),
    *("resumed-over-rate", "relayed", "source", "overload"),
}
"""Reasons that need a full table, a change or a fault of the site, or a cluster that reads sources: see test_bounds.py,
test_map_writer.py, test_resumed.py, test_relaying.py, test_claims.py, and test_isolation.py and test_turns.py of the
dispatcher."""


def tables() -> DispatchTables:
    mtus = {ip_address(address).packed: mtu for address, mtu in FIXTURES["mtus"].items()}
    return DispatchTables(make_snapshot(FIXTURES["changes"]), None, frozenset(), mtus)


@pytest.fixture(scope="module")
def program() -> Iterator[Kernel]:
    with loaded() as running:
        running.writer.apply(tables())
        yield running


def check(steps: list[dict[str, Any]], see: Callable[[bytes, int], Seen]) -> None:
    for step in steps:
        result = see(bytes.fromhex(step["packet"]), int((NOW + step["after"]) * SECOND))
        expected = (step["action"], step["reason"], step["server"], step["held"], step["output"])
        assert (result.action, result.reason, result.server, result.held, result.data.hex()) == expected


@pytest.mark.parametrize("steps", CASES)
def test_in_the_reference(steps: list[dict[str, Any]]) -> None:
    """The user-space decision gives the expected result."""
    check(steps, Reference(tables()).see)


@pytest.mark.parametrize("steps", CASES)
def test_in_the_kernel(steps: list[dict[str, Any]], kernel: None, program: Kernel) -> None:
    """The kernel program gives the expected result."""
    program.forget()
    check(steps, program.see)


def test_every_reason_has_a_case() -> None:
    """Every reason of a verdict has a case, except those that need more than packets."""
    seen = {step["reason"] for case in FIXTURES["cases"] for step in case["steps"]}
    assert seen == set(REASONS) - ELSEWHERE
