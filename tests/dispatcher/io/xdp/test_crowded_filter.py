"""A filter full of bits, as a flood of new flows leaves it: forged addresses are refused without a look into the
tables, and flows to addresses that the site's keys do not verify are still found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from dnsvip.address.keyring import Keyring
from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.io.xdp.table import records
from dnsvip.dispatcher.token_bucket import SECOND
from dnsvip.site import OnInvalid, ServerState
from tests.dispatcher.build import CLUSTER, EPOCH, NOW, SITE, address, datagram, segment, snapshot, with_state
from tests.dispatcher.io.xdp.kernel import Kernel, loaded

START = int(NOW) * SECOND
GENUINE = address("gold")
FORGED, OTHER = GENUINE ^ 1, GENUINE ^ 2
LENIENT = snapshot(replace(SITE, clusters=SITE.clusters | {"web": replace(CLUSTER, on_invalid=OnInvalid.DEFAULT_TIER)}))
REKEYED = replace(snapshot(), keyrings={"web": Keyring(CLUSTER.address_layout, [replace(EPOCH, secret=bytes(32))])})


@pytest.fixture(scope="module")
def program() -> Iterator[Kernel]:
    with loaded(1024) as running:
        yield running


@pytest.fixture
def empty(kernel: None, program: Kernel) -> Kernel:
    """The program with empty tables and the site that accepts forged addresses into its default tier."""
    program.writer.apply(DispatchTables(LENIENT))
    program.forget()
    return program


def reason(program: Kernel, vip: int) -> str:
    """The verdict's reason for a SYN."""
    return program.see(segment(vip), START).reason


def test_forged_needs_no_table(empty: Kernel) -> None:
    """A SYN to a forged address is refused unseen where no flow to one is marked; genuine flows are found."""
    assert [reason(empty, FORGED), reason(empty, GENUINE)] == ["bad-tag", "issued"]
    empty.crowd()
    assert [reason(empty, FORGED), reason(empty, GENUINE)] == ["known", "known"]
    empty.crowd(marks=False)  # the flow is there: only a look into the table would find it
    assert [reason(empty, FORGED), reason(empty, GENUINE)] == ["bad-tag", "known"]
    assert empty.see(datagram(OTHER), START).reason == "bad-tag"


def test_flow_is_marked_when_recorded_swept_and_adopted(empty: Kernel) -> None:
    """A sweep marks again, and so does the table that adopts the flow."""
    assert reason(empty, FORGED) == "bad-tag"
    for _ in range(3):
        assert empty.writer.sweep(int(NOW)) == 0
        empty.crowd()
        assert reason(empty, FORGED) == "known"
    (record,) = [bytes(record) for record in records(empty.maps["flows"])]
    assert empty.writer.sweep(int(NOW), everything=True) == 1
    assert empty.programs["adopt"].call(record) == 1
    empty.crowd()
    assert [reason(empty, FORGED), reason(empty, OTHER)] == ["known", "bad-tag"]


def test_flows_from_before_the_keys_changed(empty: Kernel) -> None:
    """Flows stay known when their addresses are forged from now on: before the next sweep and after it."""
    assert reason(empty, GENUINE) == "issued"
    empty.crowd()
    empty.writer.apply(DispatchTables(REKEYED))
    for _ in range(3):
        assert [reason(empty, GENUINE), reason(empty, OTHER)] == ["known", "bad-tag"]
        assert empty.writer.sweep(int(NOW)) == 0
        empty.crowd()


def test_other_changes_leave_the_marks_in_force(empty: Kernel) -> None:
    """Only a change of clusters or keys makes forged addresses need the tables until the next sweep."""
    empty.writer.apply(DispatchTables(snapshot()))
    assert not empty.writer.settings()["marked"]
    empty.writer.sweep(int(NOW))
    empty.writer.apply(DispatchTables(snapshot(with_state("fast", "fast-1", ServerState.DRAIN))))
    assert empty.writer.settings()["marked"]
    empty.writer.apply(DispatchTables(replace(REKEYED, site=with_state("fast", "fast-1", ServerState.DRAIN))))
    assert not empty.writer.settings()["marked"]
