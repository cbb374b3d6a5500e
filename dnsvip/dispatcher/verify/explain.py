"""Explains an AddressVerdict step by step, in the order of decoding, for `dnsvip decode`, the API and the console.

It verifies nothing itself: every step is derived from the verdict and its snapshot. No key and no expected tag
ever appears in a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from dnsvip.address.keyring import Epoch
from dnsvip.address.proof import Bind, acceptable_slots
from dnsvip.dispatcher.reason import Action, AddressReason
from dnsvip.dispatcher.verdict import AddressVerdict
from dnsvip.site import Address, ClassCluster, Client, Cluster, Snapshot, TierAction


@dataclass(frozen=True, slots=True)
class DecodingStep:
    """One step of decoding; `ok` is false for the step that rejects the address, which is the last but the verdict."""

    title: str
    detail: str
    ok: bool = True


def explain(verdict: AddressVerdict, address: int, snapshot: Snapshot, now: float) -> tuple[DecodingStep, ...]:
    """The steps that led to `verdict` on `address` at `now` (unix seconds) under `snapshot`."""
    cluster = verdict.cluster
    if cluster is None:
        known = ", ".join(str(c.prefix) for c in snapshot.site.clusters.values()) or "none"
        detail = f"in no cluster prefix (there are: {known}), so it is passed on untouched"
        return (DecodingStep("prefix", detail, ok=False),)
    if isinstance(cluster, ClassCluster):
        return (*_explain_class(verdict, cluster), _verdict(verdict, cluster))
    return (*_explain_encoded(_Case(verdict, address, snapshot, cluster, now)), _verdict(verdict, cluster))


def verdict_json(address: Address, verdict: AddressVerdict, steps: Sequence[DecodingStep]) -> dict[str, object]:
    """A verdict as JSON-ready data: what `dnsvip decode --json` prints and the HTTP API answers."""
    return {
        "address": str(address),
        "accepted": verdict.accepted,
        "action": _action(verdict).value,
        "reason": verdict.reason.value,
        "tier": verdict.tier.name if verdict.tier else None,
        "cluster": verdict.cluster.name if verdict.cluster else None,
        "client": verdict.record.name if verdict.record else None,
        "mode": verdict.mode,
        "epoch": verdict.epoch,
        "values": dict(verdict.values),
        "steps": [{"title": step.title, "detail": step.detail, "ok": step.ok} for step in steps],
    }


def _action(verdict: AddressVerdict) -> Action:
    """What is done with a packet that opens a flow to the address, as far as its address decides."""
    if verdict.reason is AddressReason.NOT_OURS:
        return Action.PASS
    serves = verdict.tier is not None and verdict.tier.action is TierAction.FORWARD
    return Action.FORWARD if serves else Action.DROP


@dataclass(frozen=True, slots=True)
class _Case:
    verdict: AddressVerdict
    address: int
    snapshot: Snapshot
    cluster: Cluster
    now: float

    @property
    def client(self) -> Client | None:
        """The record of the client that the address carries."""
        return self.verdict.record

    @property
    def epoch(self) -> Epoch | None:
        """The epoch that the address names."""
        keyring = self.snapshot.keyrings.get(self.cluster.name)
        entry = keyring.at(self.verdict.epoch) if keyring else None
        return entry[0] if entry else None


def _explain_encoded(case: _Case) -> Iterator[DecodingStep]:
    reason = case.verdict.reason
    for title, detail, ends in _STEPS:
        yield DecodingStep(title, detail(case), ok=reason not in ends or reason is AddressReason.PLAIN)
        if reason in ends:
            return


def _explain_class(verdict: AddressVerdict, cluster: ClassCluster) -> Iterator[DecodingStep]:
    yield DecodingStep("prefix", f"in {cluster.prefix}, the IPv4 cluster {cluster.name}")
    tier = verdict.tier.name if verdict.tier else ""
    detail = {
        AddressReason.PLAIN: "is the plain VIP, which carries nothing",
        AddressReason.CLASS: f"is one of the host numbers of tier {tier} (not authenticated: any client can use it)",
    }
    yield DecodingStep("class", detail.get(verdict.reason, "its host number stands for no tier"), ok=verdict.accepted)


def _verdict(verdict: AddressVerdict, cluster: Cluster | ClassCluster) -> DecodingStep:
    tier = verdict.tier
    if tier is None:
        return DecodingStep("verdict", f"rejected as {verdict.reason}: dropped", ok=False)
    use = f"tier {tier.name}, " + (f"pool {tier.pool}" if tier.pool and tier.action == "forward" else tier.action)
    if verdict.accepted:
        return DecodingStep("verdict", f"accepted as {verdict.reason}: {use}")
    return DecodingStep(
        "verdict", f"rejected as {verdict.reason}, but cluster {cluster.name} falls back to {use}", ok=False
    )


def _prefix(case: _Case) -> str:
    return f"in {case.cluster.prefix}, the cluster {case.cluster.name}"


def _plain(case: _Case) -> str:
    if case.verdict.reason is AddressReason.PLAIN:
        return "is the plain VIP, which carries nothing: the cluster's default tier"
    return f"is not the plain VIP ({case.cluster.plain}), so its suffix is read"


def _epoch(case: _Case) -> str:
    mode, epoch = case.verdict.mode, case.epoch
    slot = f"mode {mode} ({'proven' if mode else 'issued'}), epoch slot {case.verdict.epoch}: "
    if epoch is None:
        return slot + "this slot is empty or its epoch is retired"
    since = f" since {_time(epoch.activated_at)}" if epoch.activated_at else ", activation not known here yet"
    return slot + epoch.state + since


def _tag(case: _Case) -> str:
    layout = case.cluster.address_layout
    bits = f"top {layout.cheap_tag_bits} of the {layout.tag_bits}" if case.verdict.mode else f"{layout.tag_bits}"
    fits = "do not fit: forged, damaged, or of another key" if case.verdict.reason is AddressReason.BAD_TAG else "fit"
    return f"the {bits} tag bits {fits}"


def _payload(case: _Case) -> str:
    return ", ".join(f"{name} {number}{_meaning(case, name, number)}" for name, number in case.verdict.values.items())


def _meaning(case: _Case, name: str, number: int) -> str:
    if name == "tier":
        names = [tier.name for tier in case.snapshot.site.tiers.values() if tier.code == number]
        return f" ({names[0]})" if names else " (no such tier)"
    if name == "client":
        unknown = "deleted" if number in case.snapshot.deleted else "not known here"
        return " (anonymous)" if number == 0 else f" ({case.client.name if case.client else unknown})"
    table = case.cluster.values.get(name)
    if table is None or number == 0:
        return ""
    words = [word for word, value in table.items() if value == number]
    return f" ({words[0]})" if words else " (not in its table)"


def _expiry(case: _Case) -> str:
    bits, epoch = case.cluster.address_layout.bits("expiry"), case.epoch
    number = case.verdict.values.get("expiry", 0)
    if number == (1 << bits) - 1 or epoch is None or not epoch.activated_at:
        return "good as long as its epoch"
    end = epoch.activated_at + number * case.cluster.expiry_unit
    left = round(end - case.now)
    return f"good until {_time(end)}, {left} s from now" if left > 0 else f"was good until {_time(end)}, {-left} s ago"


def _client(case: _Case) -> str:
    client, number = case.client, case.verdict.client
    if client is None and case.verdict.reason is AddressReason.REVOKED:
        return f"client {number} is a deleted client: its id is refused until the keys of that time have retired"
    if client is None:
        return "anonymous" if number == 0 else f"client {number} is not known here: its payload's tier stands"
    text = f"{client.name} is {client.state}, its record says tier {client.tier}"
    return text + ("; it or its tier demands proof" if case.verdict.reason is AddressReason.UNPROVEN else "")


def _proof(case: _Case) -> str:
    reason, client = case.verdict.reason, case.client
    if not case.verdict.mode:
        return "none carried, none demanded"
    if client is None:
        return "there is no client record here, so no key that it could fit"
    bound = "" if client.proof.bind is Bind.NONE else f", source {client.proof.bind.replace('+', ' and ')}"
    slots = acceptable_slots(case.now, case.cluster.slot_seconds)
    key = f"the key of {client.name} (generation {client.key_generation})"
    what = f"{key}{bound} and the time slots {min(slots)} to {max(slots)}"
    if reason is AddressReason.BAD_PROOF:
        return f"does not fit {what}"
    return f"fits {what}" + ("; used by another flow already" if reason is AddressReason.REPLAYED else "")


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


_STEPS: tuple[tuple[str, Callable[[_Case], str], frozenset[AddressReason]], ...] = (
    ("prefix", _prefix, frozenset()),
    ("plain VIP", _plain, frozenset({AddressReason.PLAIN})),
    ("epoch", _epoch, frozenset({AddressReason.UNKNOWN_EPOCH})),
    ("tag", _tag, frozenset({AddressReason.BAD_TAG})),
    ("payload", _payload, frozenset({AddressReason.BAD_PAYLOAD})),
    ("expiry", _expiry, frozenset({AddressReason.EXPIRED})),
    ("client", _client, frozenset({AddressReason.REVOKED, AddressReason.UNPROVEN})),
    ("proof", _proof, frozenset({AddressReason.BAD_PROOF, AddressReason.REPLAYED})),
)
"""Title, detail, and the reasons that end at this step, in the order of decoding."""
