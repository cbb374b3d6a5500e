"""Addresses expire as they should, on schedule and when a rotation is late: DNS, schedule and verifier together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import ip_address

from dnsvip.address.keyring import Epoch, Keyring
from dnsvip.dispatcher.reason import AddressReason
from dnsvip.dispatcher.verify.verifier import AddressVerifier
from dnsvip.dns.identity.identify import Classified, Requester
from dnsvip.dns.synthesis.issuer import Kind
from dnsvip.dns.synthesis.vip import VipMaker
from dnsvip.site import Cluster, Service, Snapshot, Step, epochs
from dnsvip.site.epochs import NodeReport
from tests.samples import ACTIVATED, make_snapshot

WWW = Service("www.example.test", "web", "legacy")
SNAPSHOT = make_snapshot()
WEB = SNAPSHOT.site.clusters["web"]
assert isinstance(WEB, Cluster)
ACME = Classified(SNAPSHOT.site.clients["acme"], Step.SOURCE)
MINUTE, HOUR = 60, 3600
LONGEST = WEB.expiry_unit + WEB.renew_seconds + WEB.ttl
"""How long an address may live: the unit that its expiry is rounded up to, renewal and TTL."""


class Life:
    """The epochs of cluster `web` minute by minute, as a node advances them; `lags` says when a dispatcher does not
    take new keys."""

    def __init__(self, lags: Callable[[float], bool] = lambda _: False) -> None:
        self.now = float(ACTIVATED)
        self.held: Sequence[Epoch] = (epochs.first(WEB, bytes(32), self.now, 1),)
        self._lags = lags
        self._keys = frozenset(epoch.key_id for epoch in self.held)

    def minute(self) -> None:
        """One more minute."""
        self.now += MINUTE
        if not self._lags(self.now):
            self._keys = frozenset(epoch.key_id for epoch in self.held)
        report = NodeReport("d", frozenset({"dispatch"}), 1, "1", self.now, 5.0, keys=self._keys)
        self.held = epochs.advance(WEB, self.held, [report], self.now).epochs
        if epochs.is_rotation_due(WEB, self.held, self.now):
            secret = int(self.now).to_bytes(32, "big")
            self.held = (*self.held, epochs.publish("web", self.held, secret, self.now, int(self.now)))

    def until(self, age: float) -> None:
        """Minutes, until so long after the first activation (seconds)."""
        while self.now < ACTIVATED + age:
            self.minute()

    @property
    def snapshot(self) -> Snapshot:
        """What nodes decide by."""
        return replace(SNAPSHOT, keyrings={"web": Keyring(WEB.address_layout, self.held)})

    def issue(self) -> int:
        """The address of a client that asks now."""
        vip = VipMaker(self.snapshot).aaaa(WWW, ACME, Requester(ip_address("192.0.2.77")), self.now)
        assert vip.kind is Kind.ENCODED
        return vip.address

    def verify(self, address: int, later: float) -> AddressReason:
        """What becomes of a packet to an address `later` (seconds), under the keys of now."""
        return AddressVerifier(self.snapshot).verify(address, 1, 1, self.now + later).reason


def test_addresses_expire_at_any_time_of_the_default_rotation() -> None:
    """Issued 32 hours after the first activation, or at any time of a week, an address is good for its TTL and then
    expires."""
    life = Life()
    for age in sorted([*range(0, 7 * 24 * HOUR, 47 * MINUTE), 32 * HOUR]):
        life.until(age)
        address = life.issue()
        assert life.verify(address, WEB.ttl) is AddressReason.ISSUED
        assert life.verify(address, LONGEST + 1) is AddressReason.EXPIRED, f"{age / HOUR} hours after the activation"


def test_a_late_rotation_loses_no_client() -> None:
    """While a dispatcher delays the rotation past the field's end, clients keep their tier by addresses that are good
    as long as their epoch; TTL + session_lifetime after the rotation they are dead, and new ones expire again."""
    life = Life(lags=lambda now: now < ACTIVATED + 40 * HOUR)
    life.until(32 * HOUR)
    late = life.issue()
    assert life.verify(late, WEB.ttl) is AddressReason.ISSUED
    assert life.verify(late, 24 * HOUR) is AddressReason.ISSUED  # only rotation ends it
    life.until(41 * HOUR + 5 * MINUTE)
    assert life.verify(late, 0) is AddressReason.UNKNOWN_EPOCH
    assert life.verify(life.issue(), LONGEST + 1) is AddressReason.EXPIRED
