"""Guessed proofs on real packets, in both data planes: a network that guesses is refused until the slot ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from ipaddress import IPv6Address

import pytest

from dnsvip.address.proof import Bind, client_key, prove
from tests.network.dispatching import apply, read_snapshot, wait_until
from tests.network.field import TIERS, Field, kernel_world

pytestmark = pytest.mark.network
PLANES = {"user": "d1", "xdp": "d2"}
ACME = 1001
SLOT_SECONDS, NEEDED_SECONDS = 20, 12
MANY = 80
OPEN = """
import select, socket, sys, time
source, seconds, *vips = sys.argv[1:]
waiting = []
for vip in vips:
    one = socket.socket(socket.AF_INET6)
    one.bind((source, 0)); one.setblocking(False); one.connect_ex((vip, 8000))
    waiting.append(one)
until, opened = time.monotonic() + float(seconds), 0
while waiting and time.monotonic() < until:
    for one in select.select([], waiting, [], 0.1)[1]: waiting.remove(one); opened += 1
print(opened)
"""
HERE, ELSEWHERE = "2001:db8:77::10", "2001:db8:79::10"


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    """A dispatcher of each data plane on one database, two servers, and a client with addresses in two networks."""
    with kernel_world() as world:
        field = Field(world, tmp_path_factory.mktemp("guesses"), list(PLANES), servers=2)
        client = '[client.acme]\nid = 1001\ntier = "direct"\nproof = { bind = "none", required = true }\n'
        site = field.site().replace("tag_bits = 24", f"tag_bits = 24\nslot_seconds = {SLOT_SECONDS}") + client
        apply(field.folder, site, node="d1.toml")
        field.client.ip("-6", "address", "add", f"{ELSEWHERE}/128", "dev", "lo")
        field.router.route("2001:db8:79::/64", "via", HERE)
        for name in field.dispatchers:
            field.dispatch(name)
        yield field


def proven(field: Field, nonce: int = 0) -> str:
    """A proven address of the client, in the slot of now."""
    snapshot = read_snapshot(field.folder, "d1.toml")
    active, layout = snapshot.keyrings["web"].active, snapshot.site.clusters["web"].address_layout
    assert active
    issued = active[1].encode({"tier": TIERS["direct"], "client": ACME, "expiry": 127, "nonce": nonce})
    key = client_key(snapshot.masters["web"], layout, ACME, snapshot.site.clients["acme"].key_generation)
    return str(IPv6Address(prove(layout, issued, key, Bind.NONE, 0, 0, int(time.time()) // SLOT_SECONDS)))


def opened(field: Field, *vips: str, source: str = HERE, seconds: float = 5) -> int:
    """How many connections open within so many seconds; returns once all are."""
    return int(field.client.run("python3", "-c", OPEN, source, str(seconds), *vips).stdout)


@pytest.mark.parametrize("plane", PLANES)
def test_who_guesses_is_refused_until_the_slot_ends(field: Field, plane: str) -> None:
    """After 64 bad proofs a right one from that network opens nothing, one from another network does; in the next slot
    both do."""
    field.spread([PLANES[plane]])
    for _ in range(3):  # all of it has to happen in one slot, which a busy machine may not manage
        wait_until(lambda: SLOT_SECONDS - time.time() % SLOT_SECONDS > NEEDED_SECONDS, SLOT_SECONDS)
        slot = time.time() // SLOT_SECONDS
        right = proven(field)
        wrong = [str(IPv6Address(int(IPv6Address(right)) ^ guess)) for guess in range(1, MANY + 1)]
        before, guessed = opened(field, right), opened(field, *wrong, seconds=0.9)
        after = opened(field, right, seconds=0.9)
        elsewhere = opened(field, right, source=ELSEWHERE)
        if time.time() // SLOT_SECONDS == slot:
            break
    assert (before, guessed, after, elsewhere) == (1, 0, 0, 1)
    status = field.status(PLANES[plane])
    assert status["counters"]["bad-proof"] >= MANY
    assert status["guesses_refused"] >= MANY - 64
    wait_until(lambda: time.time() // SLOT_SECONDS > slot, SLOT_SECONDS)
    assert opened(field, proven(field)) == 1
