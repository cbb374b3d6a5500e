"""Key epochs under any order of rotations, reports, outages and time keep the format's guarantees."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dnsvip.address.keyring import Epoch, EpochState, Keyring
from dnsvip.errors import Conflict
from dnsvip.site import Cluster, epochs
from dnsvip.site.epochs import (
    NodeReport,
    Reserved,
    advance,
    first,
    free_slot,
    is_rotation_due,
    is_step_near,
    next_rotation,
    passed_over,
    publish,
    replace_at_once,
    retires_at,
    waiting_for,
)
from dnsvip.site.io.files import load_site

_WEB = load_site(Path(__file__).parents[2] / "examples" / "site.toml").clusters["web"]
assert isinstance(_WEB, Cluster)
WEB: Cluster = replace(_WEB, ttl=60, session_lifetime=600)
LEASE = 5.0


def _dispatcher(name: str, generation: int, seen_at: float, keys: frozenset[str] | None = None) -> NodeReport:
    return NodeReport(name, frozenset({"dispatch"}), generation, "1", seen_at, LEASE, keys=keys)


class Life(RuleBasedStateMachine):
    """A cluster's epochs as seen by store, DNS and three dispatchers, with clock and faults under test."""

    @initialize(now=st.floats(1e9, 2e9))
    def begin(self, now: float) -> None:
        """Create the cluster."""
        self.now = now
        self.generation = 1
        self.made = 0
        self.epochs: tuple[Epoch, ...] = (first(WEB, self._secret(), now, 1),)
        self.dispatchers: dict[str, NodeReport] = {}
        self.held: dict[str, frozenset[bytes]] = {}
        self.last_used: dict[bytes, float] = {self.epochs[0].secret: now}
        self.slots: dict[int, float] = {}
        self.reserved: tuple[Reserved, ...] = ()

    def _secret(self) -> bytes:
        self.made += 1
        return self.made.to_bytes(32, "big")

    @rule(name=st.sampled_from("abc"))
    def report(self, name: str) -> None:
        """A dispatcher takes the newest generation and reports it."""
        keys = frozenset(epoch.key_id for epoch in self.epochs)
        self.dispatchers[name] = _dispatcher(name, self.generation, self.now, keys)
        self.held[name] = frozenset(epoch.secret for epoch in self.epochs)

    @rule(name=st.sampled_from("abc"))
    def report_of_the_version_before(self, name: str) -> None:
        """A dispatcher of the previous version, which does not report its keys, reports its generation."""
        self.report(name)
        self.dispatchers[name] = replace(self.dispatchers[name], keys=None)

    @rule(name=st.sampled_from("abc"))
    def beat(self, name: str) -> None:
        """A dispatcher reports that it is alive at its old generation."""
        if name in self.dispatchers:
            self.dispatchers[name] = replace(self.dispatchers[name], seen_at=self.now)

    @rule(seconds=st.floats(0.01, 10) | st.floats(0, 1000))
    def wait(self, seconds: float) -> None:
        """Time passes, and DNS answers with the active epoch meanwhile."""
        self.now += seconds
        (active,) = (epoch for epoch in self.epochs if epoch.state is EpochState.ACTIVE)
        self.last_used[active.secret] = self.now

    @rule()
    def rotate(self) -> None:
        """An operator rotates if a slot is free."""
        if free_slot(self.epochs, self.reserved, self.now) is None:
            with pytest.raises(Conflict, match="all 4 key slots are taken"):
                publish("web", self.epochs, bytes(32), self.now, self.generation, self.reserved)
            return
        self.generation += 1
        made = publish("web", self.epochs, self._secret(), self.now, self.generation, self.reserved)
        assert self.now >= self.slots.get(made.slot, 0), "the slot came back too early"
        self.epochs = (*self.epochs, made)

    @rule()
    def emergency(self) -> None:
        """An operator rotates after a leak: one new active key, slots with living addresses reserved if possible."""
        free = free_slot(self.epochs, self.reserved, self.now)
        self.generation += 1
        made, lost = replace_at_once(WEB, self.epochs, self._secret(), self.now, self.generation, self.reserved)
        assert (made.state, made.slot) == (EpochState.ACTIVE, made.slot if free is None else free)
        for gone in self.epochs:
            if gone.state is not EpochState.PUBLISHED:
                self.slots[gone.slot] = self.last_used[gone.secret] + WEB.ttl + WEB.session_lifetime
        self.slots[made.slot] = 0
        self.reserved = (*(each for each in self.reserved if each.slot != made.slot), *lost)
        self.epochs = (made,)
        self.last_used[made.secret] = self.now

    @rule()
    def advance(self) -> None:
        """A node performs the steps that are due."""
        before = {epoch.secret: epoch for epoch in self.epochs}
        progress = advance(WEB, self.epochs, self.dispatchers.values(), self.now)
        self.generation += bool(progress.events)
        after = {epoch.secret for epoch in progress.epochs}
        for secret in before.keys() - after:
            gone = before[secret]
            assert gone.state is EpochState.RETIRING
            died = self.last_used[secret] + WEB.ttl + WEB.session_lifetime
            assert self.now >= died, "a key was destroyed while addresses of it lived"
            self.slots[gone.slot] = died
        for epoch in progress.epochs:
            if before[epoch.secret].state is EpochState.PUBLISHED and epoch.state is not EpochState.PUBLISHED:
                self._check_barrier(epoch)
                self.last_used[epoch.secret] = self.now
        self.epochs = progress.epochs

    def _check_barrier(self, epoch: Epoch) -> None:
        assert waiting_for(epoch, self.dispatchers.values(), self.now) == []
        for name, node in self.dispatchers.items():
            if node.is_live(self.now):
                assert epoch.secret in self.held[name], f"{name} lives and does not hold the new key"

    @precondition(lambda self: free_slot(self.epochs, self.reserved, self.now) is None)
    @rule()
    def recover(self) -> None:
        """In every state a slot becomes free once everything is reported and waited for."""
        for name in self.dispatchers:
            self.report(name)
        self.advance()
        ends = [retires_at(epoch) for epoch in self.epochs] + [each.until for each in self.reserved]
        self.now = max(self.now, *ends)
        self.advance()
        assert free_slot(self.epochs, self.reserved, self.now) is not None

    @invariant()
    def exactly_one_is_active(self) -> None:
        """One epoch is active, slots are distinct, and the keyring accepts them."""
        assert [epoch.state for epoch in self.epochs].count(EpochState.ACTIVE) == 1
        assert Keyring(WEB.address_layout, self.epochs).active


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_no_live_dispatcher_activates_at_once() -> None:
    """Without live dispatchers, or after their leases, activation waits for nothing."""
    old = first(WEB, bytes(32), 1000.0, 1)
    new = publish("web", [old], b"n" * 32, 2000.5, 7)
    lapsed = _dispatcher("d", 1, 1995.0)
    for nodes in ([], [lapsed], [NodeReport("dns", frozenset({"dns"}), 1, "1", 2000.5, LEASE)]):
        progress = advance(WEB, [old, new], nodes, 2000.5)
        assert progress.events == ("web/1 active", "web/0 retiring")
        assert [(e.state, e.activated_at, e.retiring_since) for e in progress.epochs] == [
            (EpochState.RETIRING, 1000, 2001),
            (EpochState.ACTIVE, 2000, 0),
        ]


def test_after_an_outage_leases_count_from_its_end() -> None:
    """Activation waits for a dispatcher that could not report during an outage, for one lease from its end."""
    old = first(WEB, bytes(32), 1000.0, 1)
    new = publish("web", [old], b"n" * 32, 2000.0, 7)
    cut_off = _dispatcher("d", 1, 2000.0)
    assert advance(WEB, [old, new], [cut_off], 3001.0, watched_since=3000.0).events == ()
    assert advance(WEB, [old, new], [cut_off], 3006.0, watched_since=3000.0).events != ()


def test_waiting_for_names_who_is_behind() -> None:
    """`waiting_for` names the live dispatchers that have not reported the new key."""
    epoch = publish("web", [], bytes(32), 0.0, 7)
    nodes = [_dispatcher("late", 6, 10.0), _dispatcher("ready", 7, 10.0), _dispatcher("dead", 1, 0.0)]
    assert waiting_for(epoch, nodes, 10.0) == ["late"]


def test_silent_dispatchers_are_named() -> None:
    """A dispatcher without the key and past its lease is named as passed over, not waited for."""
    epoch = publish("web", [], b"k" * 32, 0.0, 7)
    has_it = replace(_dispatcher("had", 3, 0.0), keys=frozenset({epoch.key_id}))
    nodes = [_dispatcher("late", 6, 10.0), _dispatcher("dead", 1, 0.0), has_it]
    assert passed_over(epoch, nodes, 10.0) == ["dead"]
    assert advance(WEB, [epoch], nodes[1:], 10.0).events == ("web/0 active",)


def test_generation_of_an_older_history_does_not_count() -> None:
    """Activation waits for a dispatcher that reports a later generation without the key, as after a restore."""
    old = first(WEB, bytes(32), 1000.0, 1)
    new = publish("web", [old], b"n" * 32, 2000.0, 7)
    ahead = _dispatcher("d", 90, 2000.0, frozenset({old.key_id, "0" * 16}))
    assert waiting_for(new, [ahead], 2000.0) == ["d"]
    assert advance(WEB, [old, new], [ahead], 2000.0).events == ()
    ready = replace(ahead, generation=7, keys=frozenset({new.key_id}))
    assert advance(WEB, [old, new], [ready], 2000.0).events != ()


def test_schedule() -> None:
    """A scheduled rotation is due that long after the newest epoch, unless one is pending or no slot is free."""
    daily = replace(WEB, rotate_every=86_400)
    old = first(WEB, bytes(32), 1000.0, 1)
    assert next_rotation(replace(WEB, rotate_every="never"), [old]) is None
    assert next_rotation(daily, [old]) == 87_400
    assert [is_rotation_due(daily, [old], now) for now in (1000.0, 87_399.9, 87_400.0)] == [False, False, True]
    assert not is_rotation_due(replace(WEB, rotate_every="never"), [old], 1e9)
    assert is_step_near(daily, [old], 87_400.0)
    assert not is_step_near(daily, [old], 87_399.0)
    waiting = publish("web", [old], b"n" * 32, 87_400.0, 2)
    assert not is_rotation_due(daily, [old, waiting], 1e9)
    kept = [Reserved("web", slot, "x", 90_000) for slot in (1, 2, 3)]
    assert not is_rotation_due(daily, [old], 89_999.0, kept)
    assert is_rotation_due(daily, [old], 90_000.0, kept)


def test_reserved_slots_stay_empty() -> None:
    """A reserved slot stays empty until its time; if no other is free, the error gives the time."""
    old = first(WEB, bytes(32), 1000.0, 1)
    kept = [Reserved("web", 1, "x", 5000), Reserved("web", 2, "y", 6000), Reserved("web", 3, "z", 7000)]
    assert publish("web", [old], bytes(32), 1000.0, 2, kept[:1]).slot == 2
    assert publish("web", [old], bytes(32), 5000.0, 2, kept).slot == 1
    with pytest.raises(Conflict, match="the next one becomes free in 4000 seconds"):
        publish("web", [old], bytes(32), 1000.0, 2, kept)


def test_emergency_without_a_free_slot_takes_the_one_that_ends_first() -> None:
    """If every slot has living addresses, an emergency key takes the slot whose addresses expire first."""
    old = first(WEB, bytes(32), 1000.0, 1)
    kept = [Reserved("web", 1, "x", 5000), Reserved("web", 2, "y", 1200), Reserved("web", 3, "z", 7000)]
    made, lost = replace_at_once(WEB, [old], b"n" * 32, 1000.0, 2, kept)
    assert (made.slot, made.state, made.activated_at) == (2, EpochState.ACTIVE, 1000)
    assert lost == (Reserved("web", 0, old.key_id, 1660),)


def test_slots_go_round() -> None:
    """A new epoch takes the slot after the newest one, so that slots are reused as late as possible."""
    held = [first(WEB, bytes(32), 0.0, 1)]
    for generation, slot in enumerate((1, 2, 3), 2):
        made = publish("web", held, bytes(32), 0.0, generation)
        assert made.slot == slot
        held = [made]
    assert publish("web", held, bytes(32), 0.0, 9).slot == 0


def test_full_slots_of_published_epochs_point_to_status() -> None:
    """If all slots wait for dispatchers, the error points to the status instead of a time."""
    held = [first(WEB, bytes(32), 0.0, 1)]
    for generation in (2, 3, 4):
        held.append(publish("web", held, bytes(32), 0.0, generation))
    with pytest.raises(Conflict, match="wait to become active"):
        publish("web", held, bytes(32), 0.0, 5)


def test_keep_follows_the_longest_ttl() -> None:
    """The active epoch is kept for the longest TTL and session lifetime that it had."""
    (kept,) = epochs.with_keep(replace(WEB, ttl=3600), [first(WEB, bytes(32), 0.0, 1)])
    assert kept.keep_seconds == 4200
    assert epochs.with_keep(WEB, [kept]) == (kept,)
