"""Who of several dispatchers owns a key, and the marks of packets that are relayed to it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from ipaddress import IPv6Address

import pytest

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.egress.encap import DISCARD
from dnsvip.dispatcher.peers import DIRECT_STEP, SECOND_STEP, Peers, mark, relay_key, step_of, widened
from dnsvip.site import Snapshot
from tests.dispatcher.build import CLIENT, CLUSTER4, MASTER, PLAIN4, SITE, address, segment, snapshot

A, B, C, D = (IPv6Address(f"fd00:10::{n}").packed for n in range(2, 6))
KEYS = [number.to_bytes(16, "big") for number in range(CLIENT, CLIENT + 3000)]
KEY = relay_key({"web": MASTER})


def owner(at: bytes, live: tuple[bytes, ...], key: bytes) -> bytes:
    return Peers(at, live).owner(key) or at


def test_all_name_the_same_owner() -> None:
    """Whoever is asked; each owns about a third."""
    for key in KEYS:
        assert owner(A, (B, C), key) == owner(B, (C, A), key) == owner(C, (A, B), key)
    shares = Counter(owner(A, (B, C), key) for key in KEYS)
    assert all(850 < count < 1150 for count in shares.values()), shares


def test_only_the_keys_of_the_lost_move() -> None:
    """When one is lost its keys go to the others, each to who would have been next; when one comes it takes its own."""
    for key in KEYS:
        before, after = owner(A, (B, C), key), owner(A, (B,), key)
        assert before in (C, after)
        assert owner(A, (B, C, D), key) in (D, before)


def test_replies_reach_who_owned_the_flow_before() -> None:
    """With three, a reply that the owner does not know goes on to the next, and from there nowhere."""
    for key in KEYS[:200]:
        first = owner(A, (B, C), key)
        second = owner(A, tuple(each for each in (B, C) if each != first), key) if first != A else owner(B, (C,), key)
        others = {each: Peers(each, tuple({A, B, C} - {each})) for each in (A, B, C)}
        assert others[first].replies(key, 0) == (second, SECOND_STEP)
        assert {others[each].replies(key, 0) for each in (A, B, C) if each != first} == {(first, DIRECT_STEP)}
        assert others[first].replies(key, DIRECT_STEP) == (second, SECOND_STEP)
        assert others[second].replies(key, SECOND_STEP) is None
        assert Peers(A, (B,)).replies(key, DIRECT_STEP) is None


@pytest.mark.parametrize(
    ("vip", "other", "header"), [(address("gold"), address("gold", nonce=1), 41), (PLAIN4, PLAIN4 + 1, 4)]
)
def test_only_a_mark_of_the_site_counts(vip: int, other: int, header: int) -> None:
    """Another key, address, prefix or destination, and what is not of the IP version that the outer header says, is not
    of a dispatcher."""
    inner, size = segment(vip), 40 if header == 41 else 20
    for step in (DIRECT_STEP, SECOND_STEP):
        source = DISCARD + mark(KEY, widened(vip.to_bytes(16 if header == 41 else 4, "big")), step).to_bytes(8, "big")
        assert step_of(KEY, source, DISCARD, header, inner) == step
        assert not step_of(KEY, source, DISCARD, header, segment(other))
        assert not step_of(relay_key({"web": bytes(31) + b"1"}), source, DISCARD, header, inner)
        assert not step_of(KEY, source[:15] + bytes((source[15] ^ 1,)), DISCARD, header, inner)
        assert not step_of(KEY, source, A[:8], header, inner)
        assert not step_of(KEY, source, DISCARD, 45 - header, inner)
        assert not step_of(KEY, source, DISCARD, 6, inner)
        for version in (0, 4, 5, 6, 15):
            made_up = bytes([version << 4 | inner[0] & 15]) + inner[1:]
            assert step_of(KEY, source, DISCARD, header, made_up) == (step if made_up == inner else 0)
        assert not step_of(KEY, source, DISCARD, header, inner[: size - 1])
        assert not step_of(KEY, source, DISCARD, header, b"")


def test_without_keys_nothing_is_shared() -> None:
    """A site without IPv6 clusters has no key: no mark counts, no peer lives, and it is said."""
    tables = DispatchTables(Snapshot(1, replace(SITE, clusters={"legacy": CLUSTER4}), {}, {}), peers=Peers(A, (B,)))
    assert tables.peers == Peers(A)
    assert [problem.where for problem in tables.problems] == ["dispatch.peers"]
    inner = segment(address("gold"))
    for known in (bytes(16), relay_key({"web": bytes(32)})):
        source = DISCARD + mark(known, inner[24:40], DIRECT_STEP).to_bytes(8, "big")
        assert not step_of(tables.relay_key, source, DISCARD, 41, inner)
    assert DispatchTables(snapshot(), peers=Peers(A, (B,))).problems == []
