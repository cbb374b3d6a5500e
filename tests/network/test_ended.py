"""Connections that a dispatcher ends, on real packets, in both data planes: by a reset where an address has
expired, and with their client."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dnsvip.site import Client, ClientState
from dnsvip.site.plan import Change
from dnsvip.store import Store
from dnsvip.store.usage import AtNode
from tests.network.dispatching import apply, wait_until, with_store
from tests.network.field import Field, kernel_world, rotate

pytestmark = pytest.mark.network
PLANES = {"user": "d1", "xdp": "d2"}
CLIENTS = """
[client.acme]
id = 1001
tier = "direct"
[client.other]
id = 1002
tier = "direct"
[client.d1]
id = 1003
tier = "direct"
[client.d2]
id = 1004
tier = "direct"
"""
READER = """
import socket, sys, time
connection = socket.create_connection((sys.argv[1], 8000))
connection.sendall(b"2000\\n")
for line in connection.makefile():
    print(time.time(), flush=True)
"""
"""Prints the time at which each line of a download comes, ten a second."""
WITHIN, ATTEMPTS = 1.0, 3
"""Seconds after which a client's flows have ended, and how often that is tried on a machine with other work."""


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    """A dispatcher of each data plane on one database, and one server."""
    with kernel_world() as world:
        field = Field(world, tmp_path_factory.mktemp("field"), list(PLANES), servers=1)
        apply(field.folder, site(field), node="d1.toml")
        # The server sends one segment before it waits for the client, whose acknowledgements are what is dropped.
        field.servers["s1"].ip("-6", "route", "change", "default", "via", "fd00:10::1", "initcwnd", "1")
        for name in field.dispatchers:
            field.dispatch(name)
        yield field


def site(field: Field) -> str:
    """The site with resets for expired addresses, and clients, one that each data plane's dispatcher loses."""
    cluster = "[cluster.legacy]"
    return field.site().replace(cluster, f'on_expired = "reset"\n{cluster}', 1) + CLIENTS


@pytest.fixture(params=PLANES)
def plane(request: pytest.FixtureRequest, field: Field) -> str:
    """The dispatcher that all packets go through."""
    name = PLANES[request.param]
    field.spread([name])
    return name


def test_expired_address_is_refused_at_once(field: Field, plane: str) -> None:
    """curl fails within a second with "connection refused", not after its patience; UDP learns of it too."""
    before = field.status(plane)["actions"]["expired"]["answer"]
    begun = time.monotonic()
    vip = field.address("direct", expiry=0)
    result = field.client.run("curl", "-sv", "-m", "10", f"http://[{vip}]:8000/", check=False)
    assert result.returncode == 7
    assert "refused" in result.stderr
    assert time.monotonic() - begun < 2
    ping = field.client.run("ping", "-c", "1", "-W", "2", vip, check=False).stdout
    assert "Administratively prohibited" in ping
    assert field.status(plane)["actions"]["expired"]["answer"] == before + 2


def set_acme(field: Field, state: ClientState, *, end_flows: bool) -> None:
    """Store another state of client acme."""

    async def change(store: Store) -> None:
        before = await store.objects.get("client", "acme")
        assert isinstance(before, Client)
        after = replace(before, state=state, end_flows=end_flows)
        await store.objects.apply([Change("client", "acme", "~", before, after)], "test", "api")

    asyncio.run(with_store(field.folder / "d1.toml", change))


def test_a_deleted_client_stays_refused(field: Field, plane: str) -> None:
    """New flows to a deleted client's address are `revoked`, also after a rotation and where the key's epoch is old;
    what it had open goes on, as nobody asked for more."""
    vip, other = field.address("direct", client=1003 if plane == "d1" else 1004), field.address("direct", client=1002)
    probe = lambda to: field.client.run("curl", "-s", "-m", "2", f"http://[{to}]:8000/", check=False).returncode  # noqa: E731
    download = field.downloads(1, [vip])
    try:
        asyncio.run(with_store(field.folder / "d1.toml", lambda store: delete(store, plane)))
        rotate(field.folder)
        field.settle()
        before = field.status(plane)["counters"]["revoked"]
        assert probe(vip) == 28, "no answer"
        assert field.status(plane)["counters"]["revoked"] > before
        assert probe(other) != 28
        assert not download.more()["waiting"]
    finally:
        download.finish()


async def delete(store: Store, name: str) -> None:
    """Delete a client."""
    client = await store.objects.get("client", name)
    await store.objects.apply([Change("client", name, "-", client, None)], "test", "api")


def test_flows_end_within_a_second(field: Field, plane: str, tmp_path: Path) -> None:
    """From a second after a client is revoked with `end_flows` nothing of its running download comes."""
    late = []
    for attempt in range(ATTEMPTS):
        log = tmp_path / f"{attempt}.log"
        times = lambda: [float(line) for line in log.read_text().splitlines()] if log.exists() else []  # noqa: E731, B023
        reader = field.client.start(sys.executable, "-c", READER, field.address("direct", client=1001), log=log)
        try:
            wait_until(lambda: len(times()) > 5)  # noqa: B023
            set_acme(field, ClientState.REVOKED, end_flows=True)
            committed = time.time()
            wait_until(lambda: times()[-1] < time.time() - 2 * WITHIN)  # noqa: B023
            late.append(times()[-1] - committed)
        finally:
            reader.kill()
            set_acme(field, ClientState.ENABLED, end_flows=False)
            field.settle()
        if late[-1] < WITHIN:
            return
    pytest.fail(f"the last line came {late} s after the change")


def test_a_revoked_clients_download_ends(field: Field, plane: str, tmp_path: Path) -> None:
    """Once a client is revoked with `end_flows` its packets are dropped as revoked and its download stands still, also
    after a restart of the dispatcher; another client's goes on. What both used is in the database."""
    logs = {client: tmp_path / f"{client}.log" for client in (1001, 1002)}
    readers = [
        field.client.start(sys.executable, "-c", READER, field.address("direct", client=client), log=log)
        for client, log in logs.items()
    ]
    lines = lambda client: len(logs[client].read_text().splitlines()) if logs[client].exists() else 0  # noqa: E731
    count = lambda: field.status(plane)["counters"]["revoked"]  # noqa: E731
    try:
        wait_until(lambda: lines(1001) > 3 < lines(1002))
        set_acme(field, ClientState.REVOKED, end_flows=True)
        wait_until(lambda: count() > 0)
        wait_until(lambda: stands_still(lambda: lines(1001)))
        before = lines(1002)
        wait_until(lambda: lines(1002) > before + 10)
        field.processes[plane].send_signal(signal.SIGTERM)
        field.processes[plane].wait(20)
        field.dispatch(plane)
        stopped, dropped, before = lines(1001), count(), lines(1002)
        wait_until(lambda: lines(1002) > before + 10)
        wait_until(lambda: count() > dropped, 30)  # when the server sends its lines again
        assert lines(1001) == stopped
        wait_until(lambda: used(field, plane, "other").packets > 20, 30)
        wait_until(lambda: used(field, plane, "acme").drops > 0, 30)
    finally:
        set_acme(field, ClientState.ENABLED, end_flows=False)
        for reader in readers:
            reader.kill()


def used(field: Field, plane: str, client: str) -> AtNode:
    """What a client has used at a dispatcher, by the database."""
    nodes = asyncio.run(with_store(field.folder / "d1.toml", lambda store: store.usage.of(client)))
    return next((node for node in nodes if node.node == plane), AtNode(plane, 0, 0, 0, 0, 0.0, 0.0))


def stands_still(number: Callable[[], int]) -> bool:
    """Whether a number stays the same for a second."""
    before = number()
    time.sleep(1)
    return number() == before
