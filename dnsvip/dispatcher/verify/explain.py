"""Explains an AddressVerdict step by step, in the order of decoding, for `dnsvip decode`, the API and the console.

It verifies nothing itself: every step is derived from the verdict and its snapshot. No key and no expected tag
ever appears in a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from dnsvip.address.keyring import Epoch
from dnsvip.address.proof import Bind, acceptable_slots
from dnsvip.dispatcher.reason import Action, AddressReason
from dnsvip.dispatcher.routes import EVIDENCE, RULE_OWN, CompiledRules, conditions_in_words, rule_label
from dnsvip.dispatcher.verdict import AddressVerdict
from dnsvip.site import Address, ClassCluster, Client, Cluster, OnExpired, Snapshot, TierAction


@dataclass(frozen=True, slots=True)
class DecodingStep:
    """One step of decoding; `ok` is false for the step that rejects the address, which is the last but the verdict.
    `rule` is what decides the pool, at the step that says so, as `rule_label`."""

    title: str
    detail: str
    ok: bool = True
    rule: str | None = None


def explain(verdict: AddressVerdict, address: int, snapshot: Snapshot, now: float) -> tuple[DecodingStep, ...]:
    """The steps that led to `verdict` on `address` at `now` (unix seconds) under `snapshot`."""
    cluster = verdict.cluster
    if cluster is None:
        known = ", ".join(str(c.prefix) for c in snapshot.site.clusters.values()) or "none"
        detail = f"in no cluster prefix (there are: {known}), so it is passed on untouched"
        return (DecodingStep("prefix", detail, ok=False),)
    if isinstance(cluster, ClassCluster):
        return (*_explain_class(verdict, cluster), *_routed(verdict, cluster, snapshot))
    steps = _explain_encoded(_Case(verdict, address, snapshot, cluster, now))
    return (*steps, *_routed(verdict, cluster, snapshot))


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
        "label_ignored": verdict.label_ignored,
        "rule": next((step.rule for step in steps if step.rule), None),
        "steps": [{"title": step.title, "detail": step.detail, "ok": step.ok} for step in steps],
    }


def _action(verdict: AddressVerdict) -> Action:
    """What is done with a packet that opens a flow to the address, as far as its address decides."""
    if verdict.reason is AddressReason.NOT_OURS:
        return Action.PASS
    if _is_reset(verdict):
        return Action.ANSWER
    serves = verdict.tier is not None and verdict.tier.action is TierAction.FORWARD
    return Action.FORWARD if serves else Action.DROP


def _is_reset(verdict: AddressVerdict) -> bool:
    """Whether a TCP segment to the address is answered with a reset."""
    cluster = verdict.cluster
    resets = isinstance(cluster, Cluster) and cluster.on_expired is OnExpired.RESET
    return resets and verdict.reason is AddressReason.EXPIRED


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

    @property
    def sourced(self) -> bool:
        """Whether the client's own address says who it is, as this is the plain VIP."""
        return self.address == int(self.cluster.plain)

    @property
    def claims_fault(self) -> bool:
        """Whether a claim of its client's is in no table."""
        values = self.verdict.values
        claimed = [name for name, _ in self.cluster.claims if name in values]
        return any(_word(self, name, values[name]) is None for name in claimed)


def _explain_encoded(case: _Case) -> Iterator[DecodingStep]:
    reason = case.verdict.reason
    for title, detail, ends in _STEPS:
        text = detail(case)
        if text is None:
            continue
        fails = reason in ends
        if reason is AddressReason.BAD_PAYLOAD and case.claims_fault:
            fails = title == "claims"
        yield DecodingStep(title, text, ok=not fails or reason is AddressReason.PLAIN)
        if fails:
            return
        if title == "plain VIP" and reason is AddressReason.SOURCE_NETWORK:
            yield _network(case.verdict)
            return


def _network(verdict: AddressVerdict) -> DecodingStep:
    """The step that identified the client by the packet's source."""
    name = verdict.record.name if verdict.record else f"number {verdict.client}"
    tier = verdict.tier.name if verdict.tier else "none"
    return DecodingStep("network", f"the source is in a network of client {name}, tier {tier} (identify_source)")


def _explain_class(verdict: AddressVerdict, cluster: ClassCluster) -> Iterator[DecodingStep]:
    yield DecodingStep("prefix", f"in {cluster.prefix}, the IPv4 cluster {cluster.name}")
    if verdict.reason is AddressReason.SOURCE_NETWORK:
        yield _network(verdict)
        return
    tier = verdict.tier.name if verdict.tier else ""
    detail = {
        AddressReason.PLAIN: "is the plain VIP, which carries nothing",
        AddressReason.CLASS: f"is one of the host numbers of tier {tier} (not authenticated: any client can use it)",
        AddressReason.UNPROVEN: "its tier is accepted from networks of the tier's clients only, the source is in none",
    }
    yield DecodingStep("class", detail.get(verdict.reason, "its host number stands for no tier"), ok=verdict.accepted)


def _routed(verdict: AddressVerdict, cluster: Cluster | ClassCluster, snapshot: Snapshot) -> Iterator[DecodingStep]:
    """What decides the pool, where that is not the tier; then the verdict."""
    tier = verdict.tier
    if tier is None:
        done = "answered with a TCP reset, or an ICMP error" if _is_reset(verdict) else "dropped"
        yield DecodingStep("verdict", f"rejected as {verdict.reason}: {done}", ok=False)
        return
    words, pool, rule = decided(verdict, snapshot)
    if words is not None:
        yield DecodingStep("route", words, rule=rule_label(rule))
    use = f"tier {tier.name}, " + (pool if pool and tier.action == "forward" else tier.action)
    if verdict.accepted:
        yield DecodingStep("verdict", f"accepted as {verdict.reason}: {use}")
    else:
        detail = f"rejected as {verdict.reason}, but cluster {cluster.name} falls back to {use}"
        yield DecodingStep("verdict", detail, ok=False)


def decided(verdict: AddressVerdict, snapshot: Snapshot) -> tuple[str | None, str | None, int]:
    """In words, what decides the pool of a flow to an address that has a tier (None: that tier), and the pool; and its
    `Route.rule`."""
    record, tier, cluster = verdict.record, verdict.tier, verdict.cluster
    if record is not None and record.pool in snapshot.site.pools and verdict.reason in EVIDENCE:
        return f"client {record.name} has a pool of its own", f"pool {record.pool}", RULE_OWN
    if record is not None and record.servers and verdict.reason in EVIDENCE:
        words = f"client {record.name} has servers of its own, while one of them takes flows"
        return words, f"server {' or '.join(record.servers)}", RULE_OWN
    rules = CompiledRules(cluster, snapshot.site) if cluster is not None and cluster.select else None
    number = rules.first(verdict) if rules else 0
    if rules and number:
        rule = rules.rules[number - 1]
        priority = "" if rule.priority is None else f", priority {rule.priority}"
        return f"rule {number} fits first: {conditions_in_words(rule)}", f"pool {rule.pool}{priority}", number
    pool = f"pool {tier.pool}" if tier and tier.pool else None
    return ("no rule fits: the tier's pool" if rules else None), pool, 0


def _prefix(case: _Case) -> str:
    return f"in {case.cluster.prefix}, the cluster {case.cluster.name}"


def _plain(case: _Case) -> str:
    if case.verdict.reason is AddressReason.PLAIN:
        return "is the plain VIP, which carries nothing: the cluster's default tier"
    if case.verdict.reason is AddressReason.SOURCE_NETWORK:
        if case.address == int(case.cluster.plain):
            return "is the plain VIP, which carries nothing"
        return "is authentic, but names nobody, or a client that this source must prove to be"
    if case.sourced:
        return "is the plain VIP; the client's own address says who it is"
    return f"is not the plain VIP ({case.cluster.plain}), so its suffix is read"


def _epoch(case: _Case) -> str:
    mode, epoch = case.verdict.mode, case.epoch
    mode_name = "source" if case.sourced else "proven" if mode else "issued"
    slot = f"mode {mode} ({mode_name}), epoch slot {case.verdict.epoch}: "
    if epoch is None:
        return slot + "this slot is empty or its epoch is retired"
    since = f" since {_time(epoch.activated_at)}" if epoch.activated_at else ", activation not known here yet"
    return slot + epoch.state + since


def _tag(case: _Case) -> str:
    layout, source = case.cluster.address_layout, case.cluster.source
    if case.sourced and source is not None:
        return f"the {source.tag_bits} tag bits of the client's own address fit"
    bits = f"top {layout.cheap_tag_bits} of the {layout.tag_bits}" if case.verdict.mode else f"{layout.tag_bits}"
    fits = "do not fit: forged, damaged, or of another key" if case.verdict.reason is AddressReason.BAD_TAG else "fit"
    return f"the {bits} tag bits {fits}"


def _payload(case: _Case) -> str:
    claimed = case.cluster.claimed
    return _listed(case, {name: number for name, number in case.verdict.values.items() if name not in claimed})


def _claims(case: _Case) -> str | None:
    values = case.verdict.values
    claims = {name: values[name] for name, _ in case.cluster.claims if name in values}
    if not case.cluster.claims:
        return None
    return _listed(case, claims) if claims else "none: only an address that is proven carries some"


def _label(case: _Case) -> str | None:
    label, values = case.cluster.label, case.verdict.values
    if label is None or case.sourced:
        return None
    if case.verdict.label_ignored:
        return "is no claim of this client's: ignored"
    claims = {name: values[name] for name, _ in label.claims if name in values}
    return _listed(case, claims) if claims else "none given"


def _listed(case: _Case, values: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number}{_meaning(case, name, number)}" for name, number in values.items())


def _meaning(case: _Case, name: str, number: int) -> str:
    if name == "tier":
        names = [tier.name for tier in case.snapshot.site.tiers.values() if tier.code == number]
        return f" ({names[0]})" if names else " (no such tier)"
    if name == "client":
        unknown = "deleted" if number in case.snapshot.deleted else "not known here"
        return " (anonymous)" if number == 0 else f" ({case.client.name if case.client else unknown})"
    word = _word(case, name, number)
    return " (not in its table)" if word is None else f" ({word})" if word else ""


def _word(case: _Case, name: str, number: int) -> str | None:
    """The word for the number of an attribute; empty where it has no table or is not set, None for one not in it."""
    table = case.cluster.values.get(name)
    if table is None or number == 0:
        return ""
    return next((word for word, value in table.items() if value == number), None)


def _expiry(case: _Case) -> str:
    source, epoch = case.cluster.source, case.epoch
    layout = source.layout if case.sourced and source is not None else case.cluster.layout
    bits = dict(layout).get("expiry", 0)
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
        text = "anonymous" if number == 0 else f"client {number} is not known here: its payload's tier stands"
        return text + (_demanded(case, None) if case.verdict.reason is AddressReason.UNPROVEN else "")
    text = f"{client.name} is {client.state}, its record says tier {client.tier}"
    text += "" if client.tier in case.snapshot.site.tiers else ", which is not in the site: it is refused"
    return text + (_demanded(case, client) if case.verdict.reason is AddressReason.UNPROVEN else "")


def _demanded(case: _Case, client: Client | None) -> str:
    """Why an address counts as unproven."""
    tiers = case.snapshot.site.tiers
    codes = [tier for tier in tiers.values() if tier.code == case.verdict.values.get("tier")]
    tier = tiers.get(client.tier) if client else codes[0] if codes else None
    if (client and client.proof.required) or (tier and tier.require_proof):
        return "; it or its tier demands proof"
    return "; accepted from its own networks only, and the source is in none of them"


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


_STEPS: tuple[tuple[str, Callable[[_Case], str | None], frozenset[AddressReason]], ...] = (
    ("prefix", _prefix, frozenset()),
    ("plain VIP", _plain, frozenset({AddressReason.PLAIN})),
    ("epoch", _epoch, frozenset({AddressReason.UNKNOWN_EPOCH})),
    ("tag", _tag, frozenset({AddressReason.BAD_TAG})),
    ("payload", _payload, frozenset({AddressReason.BAD_PAYLOAD})),
    ("expiry", _expiry, frozenset({AddressReason.EXPIRED})),
    ("client", _client, frozenset({AddressReason.REVOKED, AddressReason.UNPROVEN})),
    ("proof", _proof, frozenset({AddressReason.BAD_PROOF, AddressReason.REPLAYED})),
    ("claims", _claims, frozenset()),
    ("label", _label, frozenset()),
)
"""Title, detail (None: no step here), and the reasons that end at this step, in the order of decoding."""
