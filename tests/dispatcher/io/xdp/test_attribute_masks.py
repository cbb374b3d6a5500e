"""Rules that name attributes, for clients that their networks tell, in both planes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Any

import pytest

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.io.xdp.attribute_masks import AttributeMasks
from dnsvip.dispatcher.io.xdp.map_writer import MapWriter
from dnsvip.dispatcher.token_bucket import SECOND
from tests.dispatcher.build import segment
from tests.dispatcher.io.xdp.kernel import Kernel, Reference, loaded
from tests.samples import NOW, make_snapshot

PLAIN = int(ip_address("2001:db8:a:1::1"))
LAYOUT = [["tier", 4], ["client", 20], ["lang", 3], ["more", 10]]
RULES = [
    {"when": {"lang": "fr"}, "pool": "french"},
    {"when": {"more": [7, 1000]}, "pool": "more"},
    {"when": {"lang": 0, "client": "c3"}, "pool": "none"},
]
POOLS = {
    name: {"servers": [{"name": f"{name}-1", "address": f"fd00:10::{number}"}]}
    for number, name in enumerate(("french", "more", "none"), 51)
}
ATTRIBUTES: Mapping[str, Mapping[str, Any]] = {
    "c1": {"lang": "fr"},
    "c2": {"more": 1000},
    "c3": {},
    "c4": {"lang": "fr", "more": 7},
    "c5": {"lang": "de", "more": 8},
    "c6": {"more": 7},
}
POOL_OF = {"c1": "french", "c2": "more", "c3": "none", "c4": "french", "c5": "fast", "c6": "more"}


@pytest.fixture(scope="module")
def program() -> Iterator[Kernel]:
    with loaded(4096) as running:
        yield running


def tables(attributes: Mapping[str, Mapping[str, Any]], identify: bool = True) -> DispatchTables:
    """Clients with networks and attributes, and a cluster that has rules for these."""
    web = {"layout": LAYOUT, "values": {"lang": {"fr": 1, "de": 2}}, "identify_source": identify, "select": RULES}
    clients: dict[str, Any] = {
        name: {"id": int(name[1:]), "tier": "gold", "match": [{"source": f"2001:db8:90::{name[1:]}/128"}]}
        | ({"attributes": dict(some)} if some else {})
        for name, some in attributes.items()
    }
    gone = {"acme": None, "newsreader": None}
    return DispatchTables(
        make_snapshot({"cluster": {"web": web}, "pool": POOLS, "tsig": {"acme-key": None}, "client": gone | clients})
    )


def pools(program: Kernel, now: DispatchTables) -> dict[str, str]:
    """The pool that each client's flow to the plain VIP gets, the same in both planes."""
    program.writer.apply(now)
    program.forget()
    reference, found = Reference(now), {}
    for name in ATTRIBUTES:
        data = segment(PLAIN, source=int(ip_address(f"2001:db8:90::{name[1:]}")))
        seen = program.see(data, int(NOW) * SECOND)
        assert seen == reference.see(data, int(NOW) * SECOND)
        found[name] = seen.server.split("/")[0]
    return found


def test_attributes_select(kernel: None, program: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client's attributes, as words and numbers, decide at the plain VIP; one of no attributes has zeros."""
    monkeypatch.setattr("dnsvip.xdp.maps.BATCH", 2)
    assert pools(program, tables(ATTRIBUTES)) == POOL_OF
    assert set(pools(program, tables(ATTRIBUTES, identify=False)).values()) == {"slow"}
    assert not list(program.maps["client_masks"].keys())


def test_changes_alone_are_written(kernel: None, program: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attributes that change, come and go, and a client that goes."""
    assert pools(program, tables(ATTRIBUTES)) == POOL_OF
    monkeypatch.setattr(AttributeMasks, "_write_all", None)
    changed = {**ATTRIBUTES, "c1": {"more": 7}, "c2": {}, "c3": {"lang": "fr"}}
    assert pools(program, tables(changed)) == {**POOL_OF, "c1": "more", "c2": "fast", "c3": "french"}
    assert len(list(program.maps["client_masks"].keys())) == 5
    del changed["c4"], changed["c1"]
    assert pools(program, tables(changed)) == {**POOL_OF, "c1": "slow", "c2": "fast", "c3": "french", "c4": "slow"}
    assert len(list(program.maps["client_masks"].keys())) == 3


def test_a_new_process_takes_the_map_over(kernel: None, program: Kernel) -> None:
    """What only an earlier process knew is removed."""
    assert pools(program, tables(ATTRIBUTES)) == POOL_OF
    program.writer = MapWriter(program.maps, program.programs)
    program.writer.settings(trace=1, user_space=1)
    left = {**ATTRIBUTES, "c1": {}, "c4": {"lang": "de"}}
    assert pools(program, tables(left)) == {**POOL_OF, "c1": "fast", "c4": "fast"}
    assert len(list(program.maps["client_masks"].keys())) == 4
