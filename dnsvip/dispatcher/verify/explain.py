"""A judgement told to people: the steps of decoding, as far as the address got.

Nothing is judged here. What each step says is put together from an AddressVerdict and the snapshot it was
made under; no key and no expected tag is ever part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from dnsvip.address.keyring import Epoch
from dnsvip.address.proof import Bind, acceptable_slots
from dnsvip.dispatcher.reason import AddressVerdict, Reason, Step
from dnsvip.site import Address, ClassCluster, Client, Cluster, Snapshot


def explain(
    judgement: AddressVerdict, address: int, snapshot: Snapshot, client: Client | None, now: float
) -> tuple[Step, ...]:
    """The steps for `judgement` on `address`, made at `now`; `client` is the record of judgement.client."""
    cluster = snapshot.site.clusters.get(judgement.cluster or "")
    if cluster is None:
        known = ", ".join(str(c.prefix) for c in snapshot.site.clusters.values()) or "none"
        return (Step("prefix", f"in no cluster prefix (there are: {known}), so it is passed on untouched", ok=False),)
    if isinstance(cluster, ClassCluster):
        return (*_explain_class(judgement, cluster), _verdict(judgement, cluster))
    case = _Case(judgement, address, snapshot, cluster, client, now)
    return (*_explain_encoded(case), _verdict(judgement, cluster))


def judged(address: Address, found: AddressVerdict, steps: Sequence[Step], client: Client | None) -> dict[str, object]:
    """A judgement as JSON-ready data: what `dnsvip decode --json` prints and the HTTP API answers."""
    return {
        "address": str(address),
        "accepted": found.accepted,
        "reason": found.reason.value,
        "tier": found.tier.name if found.tier else None,
        "cluster": found.cluster,
        "client": client.name if client else None,
        "mode": found.mode,
        "epoch": found.epoch,
        "values": dict(found.values),
        "steps": [{"title": step.title, "detail": step.detail, "ok": step.ok} for step in steps],
    }


@dataclass(frozen=True, slots=True)
class _Case:
    judgement: AddressVerdict
    address: int
    snapshot: Snapshot
    cluster: Cluster
    client: Client | None
    now: float

    @property
    def epoch(self) -> Epoch | None:
        """The epoch that the address names."""
        keyring = self.snapshot.keyrings.get(self.cluster.name)
        entry = keyring.at(self.judgement.epoch) if keyring else None
        return entry[0] if entry else None


def _explain_encoded(case: _Case) -> Iterator[Step]:
    reason = case.judgement.reason
    for title, detail, ends in _STEPS:
        yield Step(title, detail(case), ok=reason not in ends or reason is Reason.PLAIN)
        if reason in ends:
            return


def _explain_class(judgement: AddressVerdict, cluster: ClassCluster) -> Iterator[Step]:
    yield Step("prefix", f"in {cluster.prefix}, the IPv4 cluster {cluster.name}")
    tier = judgement.tier.name if judgement.tier else ""
    detail = {
        Reason.PLAIN: "is the plain VIP, which carries nothing",
        Reason.CLASS: f"is one of the host numbers of tier {tier} (not authenticated: any client can use it)",
    }
    yield Step("class", detail.get(judgement.reason, "its host number stands for no tier"), ok=judgement.accepted)


def _verdict(judgement: AddressVerdict, cluster: Cluster | ClassCluster) -> Step:
    tier = judgement.tier
    if tier is None:
        return Step("verdict", f"rejected as {judgement.reason}: dropped", ok=False)
    use = f"tier {tier.name}, " + (f"pool {tier.pool}" if tier.pool and tier.action == "forward" else tier.action)
    if judgement.accepted:
        return Step("verdict", f"accepted as {judgement.reason}: {use}")
    return Step("verdict", f"rejected as {judgement.reason}, but cluster {cluster.name} falls back to {use}", ok=False)


def _prefix(case: _Case) -> str:
    return f"in {case.cluster.prefix}, the cluster {case.cluster.name}"


def _plain(case: _Case) -> str:
    if case.judgement.reason is Reason.PLAIN:
        return "is the plain VIP, which carries nothing: the cluster's default tier"
    return f"is not the plain VIP ({case.cluster.plain}), so its suffix is read"


def _epoch(case: _Case) -> str:
    mode, epoch = case.judgement.mode, case.epoch
    slot = f"mode {mode} ({'proven' if mode else 'issued'}), epoch slot {case.judgement.epoch}: "
    if epoch is None:
        return slot + "this slot is empty or its epoch is retired"
    since = f" since {_time(epoch.activated_at)}" if epoch.activated_at else ", activation not known here yet"
    return slot + epoch.state + since


def _tag(case: _Case) -> str:
    layout = case.cluster.address_layout
    bits = f"top {layout.cheap_tag_bits} of the {layout.tag_bits}" if case.judgement.mode else f"{layout.tag_bits}"
    fits = "do not fit: forged, damaged, or of another key" if case.judgement.reason is Reason.BAD_TAG else "fit"
    return f"the {bits} tag bits {fits}"


def _payload(case: _Case) -> str:
    return ", ".join(f"{name} {number}{_meaning(case, name, number)}" for name, number in case.judgement.values.items())


def _meaning(case: _Case, name: str, number: int) -> str:
    if name == "tier":
        names = [tier.name for tier in case.snapshot.site.tiers.values() if tier.code == number]
        return f" ({names[0]})" if names else " (no such tier)"
    if name == "client":
        return " (anonymous)" if number == 0 else f" ({case.client.name if case.client else 'not known here'})"
    table = case.cluster.values.get(name)
    if table is None or number == 0:
        return ""
    words = [word for word, value in table.items() if value == number]
    return f" ({words[0]})" if words else " (not in its table)"


def _expiry(case: _Case) -> str:
    bits, epoch = case.cluster.address_layout.bits("expiry"), case.epoch
    number = case.judgement.values.get("expiry", 0)
    if number == (1 << bits) - 1 or epoch is None or not epoch.activated_at:
        return "good as long as its epoch"
    end = epoch.activated_at + number * case.cluster.expiry_unit
    left = round(end - case.now)
    return f"good until {_time(end)}, {left} s from now" if left > 0 else f"was good until {_time(end)}, {-left} s ago"


def _client(case: _Case) -> str:
    client, number = case.client, case.judgement.client
    if client is None:
        return "anonymous" if number == 0 else f"client {number} is not known here: its payload's tier stands"
    text = f"{client.name} is {client.state}, its record says tier {client.tier}"
    return text + ("; it or its tier demands proof" if case.judgement.reason is Reason.UNPROVEN else "")


def _proof(case: _Case) -> str:
    reason, client = case.judgement.reason, case.client
    if not case.judgement.mode:
        return "none carried, none demanded"
    if client is None:
        return "there is no client record here, so no key that it could fit"
    bound = "" if client.proof.bind is Bind.NONE else f", source {client.proof.bind.replace('+', ' and ')}"
    slots = acceptable_slots(case.now, case.cluster.slot_seconds)
    key = f"the key of {client.name} (generation {client.key_generation})"
    what = f"{key}{bound} and the time slots {min(slots)} to {max(slots)}"
    if reason is Reason.BAD_PROOF:
        return f"does not fit {what}"
    return f"fits {what}" + ("; used by another flow already" if reason is Reason.REPLAYED else "")


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


_STEPS: tuple[tuple[str, Callable[[_Case], str], frozenset[Reason]], ...] = (
    ("prefix", _prefix, frozenset()),
    ("plain VIP", _plain, frozenset({Reason.PLAIN})),
    ("epoch", _epoch, frozenset({Reason.UNKNOWN_EPOCH})),
    ("tag", _tag, frozenset({Reason.BAD_TAG})),
    ("payload", _payload, frozenset({Reason.BAD_PAYLOAD})),
    ("expiry", _expiry, frozenset({Reason.EXPIRED})),
    ("client", _client, frozenset({Reason.REVOKED, Reason.UNPROVEN})),
    ("proof", _proof, frozenset({Reason.BAD_PROOF, Reason.REPLAYED})),
)
"""Title, what it says, and the reasons that end there, in the order of decoding."""
