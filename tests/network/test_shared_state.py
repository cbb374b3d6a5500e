"""Two dispatchers, one in user space and one in the kernel, share single uses and translations under nat."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from ipaddress import IPv6Address

import pytest

from dnsvip.address.proof import Bind, client_key, prove
from dnsvip.site import Cluster
from tests.network.dispatching import read_snapshot, wait_until
from tests.network.field import TIERS, Field, kernel_world

pytestmark = [pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(400)]

SERVER4, VIPS4 = "10.0.0.31", ("192.0.2.10", "192.0.2.11")
DISPATCHERS = {"d1": "fd00:10::2", "d2": "fd00:10::3"}
ONCE = """
[client.once]
id = 1001
tier = "direct"
proof = { bind = "none", single_use = true }
"""
CONNECT = """
import socket, sys
try: connection = socket.create_connection((sys.argv[1], 8000), 1.5)
except TimeoutError: print("nobody answers")
else:
    connection.settimeout(10)
    connection.sendall(b"1\\n")
    print("served by", connection.makefile().readline().split()[0])
"""


class Sharing(Field):
    """A field whose dispatchers know each other."""

    def site(self) -> str:
        """See Field.site."""
        site = super().site().replace("[cluster.legacy]", "slot_seconds = 300\n[cluster.legacy]", 1) + ONCE
        site = site.replace("direct = [8, 9]", "direct = [8, 9], translated = [10, 11]")
        server = '{ name = "n1", address = "fd00:10::31" }'
        return site.replace(server, f'{server}, {{ name = "n1-4", address = "{SERVER4}" }}')

    def node(self, name: str) -> str:
        """See Field.node."""
        return super().node(name) + f'address = "{DISPATCHERS[name]}"\npeers = {list(DISPATCHERS.values())}\n'

    def once(self, nonce: int) -> str:
        """A proven address that opens one flow, from anywhere."""
        snapshot = read_snapshot(self.folder, "d1.toml")
        cluster, active = snapshot.site.clusters["web"], snapshot.keyrings["web"].active
        assert isinstance(cluster, Cluster)
        assert active
        layout, client = cluster.address_layout, snapshot.site.clients["once"]
        key = client_key(snapshot.masters["web"], layout, client.id, client.key_generation)
        issued = active[1].encode({"tier": TIERS["direct"], "client": client.id, "expiry": 127, "nonce": nonce})
        return str(IPv6Address(prove(layout, issued, key, Bind.NONE, 0, 0, int(time.time()) // 300)))

    def connect(self, by: str, vip: str) -> str:
        """What a new connection by a dispatcher comes to."""
        self.spread([by])
        return self.client.run("python3", "-c", CONNECT, vip).stdout.strip()

    def wire_nat(self) -> None:
        """See Field.wire_nat; the server has an IPv4 address too."""
        super().wire_nat()
        self.translated.ip("-4", "address", "add", f"{SERVER4}/24", "dev", "eth0")
        self.answer_by("d1")

    def answer_by(self, name: str) -> None:
        """Route the answers of the server under nat to a dispatcher."""
        self.translated.ip("-6", "route", "replace", "default", "via", DISPATCHERS[name])
        self.translated.ip("-4", "route", "replace", "default", "via", f"10.0.0.{int(name[1:]) + 1}")
        self.translated.ip("-4", "route", "flush", "cache")

    def see_each_other(self) -> None:
        """Wait until each dispatcher knows that the other lives."""
        wait_until(lambda: all(self.status(name)["peers"]["live"] for name in DISPATCHERS), 60)

    def count(self, name: str, reason: str) -> int:
        """A counter of a dispatcher."""
        number: int = self.status(name)["counters"][reason]
        return number


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sharing]:
    """Both dispatchers, which see each other."""
    with kernel_world() as world:
        made = Sharing(world, tmp_path_factory.mktemp("sharing"), ["user", "xdp"], servers=2)
        made.wire_nat()
        for name in made.dispatchers:
            made.dispatch(name)
        made.see_each_other()
        yield made


def test_a_single_use_is_one_at_both(field: Sharing) -> None:
    """An address that was used by one dispatcher is refused by the other, whichever owns it; one relays to the
    other."""
    before = sum(field.count(name, "relayed") for name in DISPATCHERS)
    for nonce in range(4):
        vip, (first, second) = field.once(nonce), sorted(DISPATCHERS, reverse=nonce % 2 == 1)
        assert field.connect(first, vip).startswith("served by")
        replayed = sum(field.count(name, "replayed") for name in DISPATCHERS)
        assert field.connect(second, vip) == "nobody answers"
        assert field.connect(first, vip) == "nobody answers"
        assert sum(field.count(name, "replayed") for name in DISPATCHERS) > replayed
    assert sum(field.count(name, "relayed") for name in DISPATCHERS) > before


@pytest.mark.parametrize("version", [6, 4])
def test_flows_under_nat_go_on_at_the_other(field: Sharing, version: int) -> None:
    """Downloads go on when their packets, the server's answers, or both come to the other dispatcher, and when the one
    that does not own their translations is lost; once the owner is, new ones are the other's."""
    vips = VIPS4 if version == 4 else [field.address("translated", nonce) for nonce in range(4)]
    before = {name: field.count(name, "relayed") for name in DISPATCHERS}
    field.spread(list(DISPATCHERS))
    downloads = field.downloads(40, vips, 300)
    took = {}
    for by, back in (("d1", "d2"), ("d2", "d2"), ("d2", "d1"), ("d1", "d1")):
        field.spread([by])
        field.answer_by(back)
        went_on = downloads.more()
        assert (went_on["waiting"], went_on["harmed"]) == ([], {}), (by, back)
        took[f"{by}, back by {back}"] = round(went_on["seconds"], 2)
    relayed = {name: field.count(name, "relayed") - before[name] for name in DISPATCHERS}
    other = max(relayed, key=lambda name: relayed[name])
    owner = next(name for name in DISPATCHERS if name != other)
    field.answer_by(owner)  # first: the host of a killed process would forward answers untranslated
    field.processes[other].send_signal(signal.SIGKILL)
    field.processes[other].wait(20)
    field.spread([owner])
    went_on = downloads.more()
    assert (went_on["waiting"], went_on["harmed"]) == ([], {})
    took[f"{other} lost"] = round(went_on["seconds"], 2)
    print(f"seconds until all went on: {took}")  # noqa: T201 - the figure, with -s
    result = downloads.finish()
    assert (result["harmed"], len(result["by_flow"])) == ({}, 40)
    field.dispatch(other)
    field.processes[owner].send_signal(signal.SIGKILL)
    field.processes[owner].wait(20)
    field.answer_by(other)
    wait_until(lambda: field.status(other)["peers"]["lost"] == [DISPATCHERS[owner]])
    assert field.connect(other, vips[0]) == "served by n1"
    field.dispatch(owner)
    field.see_each_other()
