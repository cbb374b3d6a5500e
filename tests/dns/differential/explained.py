"""Where the servers are known to differ, why, and by which RFC. A difference that no row covers is a fault.

Each row decides, from the answers and the zones alone, whether this very difference is the one it explains;
none looks only at the question. Where the peer is at fault, the other one must be our witness.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import dns.name

from tests.dns.differential.asking import Answer, Record
from tests.dns.differential.generate import GeneratedZone, Name, Question

Section: TypeAlias = frozenset[tuple[object, ...]]


class World:
    """The zones that were asked about."""

    def __init__(self, zones: Sequence[GeneratedZone]) -> None:
        self.zones: Mapping[Name, GeneratedZone] = {zone.apex: zone for zone in zones}
        self.exist = {zone.apex: _existing(zone) for zone in zones}

    def apex_of(self, name: Name, rtype: str) -> Name | None:
        """The apex of the zone to ask: the longest, for DS the one above it (RFC 4035 section 3.1.4.1)."""
        around = [name[up:] for up in range(len(name) + 1) if name[up:] in self.zones]
        return around[1] if rtype == "DS" and len(around) > 1 and around[0] == name else (around or [None])[0]

    def shared(self, name: Name, apex: Name) -> bool:
        """Whether a name, one between it and its apex, or a wildcard beside it is in another zone, but not there."""
        path = {name[up:] for up in range(len(name) - len(apex))}
        path = (path | {(b"*", *part[1:]) for part in path}) - self.exist[apex]
        return any(path & names for other, names in self.exist.items() if other != apex)


def _existing(zone: GeneratedZone) -> set[Name]:
    return {name[up:] for name in zone.nodes for up in range(len(name) + 1)}


def labels(name: dns.name.Name) -> Name:
    """A dnspython name as labels in lower case."""
    return tuple(label.lower() for label in name.labels[:-1])


def section(records: Sequence[Record]) -> Section:
    """Records as a set: without order, case, or how they are shown."""
    return frozenset((record.owner, record.rtype, record.ttl, record.data) for record in records)


def differences(ours: Answer, theirs: Answer) -> list[str]:
    """In what two answers differ: flags, sections as sets, and the order of the aliases that lead to the answer."""
    parts = [part for part in ("rcode", "aa", "tc", "question", "edns") if getattr(ours, part) != getattr(theirs, part)]
    sections = ("answer", "authority", "additional")
    parts += [part for part in sections if section(getattr(ours, part)) != section(getattr(theirs, part))]
    if "answer" not in parts and _aliases(ours) != _aliases(theirs):
        parts.append("alias order")
    return parts


def _aliases(answer: Answer) -> list[tuple[object, ...]]:
    return [(r.owner, r.rtype, r.data) for r in answer.answer if r.rtype in ("CNAME", "DNAME")]


def _last_name(question: Question, records: Sequence[Record]) -> Name:
    """Where the aliases among these records end."""
    name = tuple(label.lower() for label in question.name)
    for record in records:
        if record.rtype == "CNAME" and labels(record.owner) == name:
            name = record.target
    return name


def _begins_with(records: Sequence[Record], first: Sequence[Record]) -> bool:
    return [section([record]) for record in records[: len(first)]] == [section([record]) for record in first]


Covers: TypeAlias = Callable[[World, Question, Answer, Answer], bool]


@dataclass(frozen=True)
class Explained:
    """A difference between our answer and a peer's. `covers(world, question, ours, theirs)`.

    `witness`: another peer must answer as we do, but for differences that need no witness.
    """

    peers: frozenset[str]
    why: str
    covers: Covers
    witness: bool = False


def _any(_: World, question: Question, ours: Answer, theirs: Answer) -> bool:
    same = (ours.rcode, ours.aa, ours.tc, section(ours.authority)) == (
        theirs.rcode,
        theirs.aa,
        theirs.tc,
        section(theirs.authority),
    )
    synthesized = [record for record in ours.answer if record.rtype == "HINFO" and record.shown == '"RFC8482" ""']
    real = [record for record in theirs.answer if record.owner == synthesized[0].owner] if synthesized else []
    return question.rtype == "ANY" and same and len(synthesized) == 1 and bool(real)


def _stays_in_zone(world: World, question: Question, ours: Answer, theirs: Answer) -> bool:
    """The same up to where the alias leaves the zone."""
    for number, record in enumerate(ours.answer, 1):
        begun = ours.answer[:number]
        home, there = world.apex_of(labels(record.owner), question.rtype), world.apex_of(record.target, question.rtype)
        if record.rtype == "CNAME" and home != there:
            return theirs.aa and _begins_with(theirs.answer, begun)
    return False


def _tree_shared(world: World, question: Question, ours: Answer, theirs: Answer) -> bool:
    """Theirs is negative at a name, in a zone, that has names in common with another."""
    name = _last_name(question, theirs.answer)
    apex = world.apex_of(name, question.rtype)
    soa = [labels(r.owner) for r in theirs.authority if r.rtype == "SOA"]
    return apex is not None and soa == [apex] and world.shared(name, apex) and _begins_with(ours.answer, theirs.answer)


def _ds_from_above(world: World, question: Question, _: Answer, theirs: Answer) -> bool:
    """Theirs comes from another zone than the one right above the cut."""
    name = _last_name(question, theirs.answer)
    return question.rtype == "DS" and name in world.zones


def _ds_of_a_zone(world: World, question: Question, ours: Answer, theirs: Answer) -> bool:
    """The one difference is whether the name of a zone that the one above does not delegate exists."""
    name = _last_name(question, theirs.answer)
    there = (ours.rcode, theirs.rcode) == ("NOERROR", "NXDOMAIN") and differences(ours, theirs) == ["rcode"]
    return question.rtype == "DS" and name in world.zones and there


def _round_again(_: World, _question: Question, ours: Answer, theirs: Answer) -> bool:
    once = list(dict.fromkeys(_aliases(theirs)))
    return differences(ours, theirs) == ["alias order"] and len(once) < len(theirs.answer) and once == _aliases(ours)


def _loop(_: World, question: Question, ours: Answer, theirs: Answer) -> bool:
    """The aliases lead to a name that was there before."""
    names, name = [], tuple(label.lower() for label in question.name)
    for record in theirs.answer:
        if record.rtype == "CNAME" and labels(record.owner) == name:
            names.append(name)
            name = record.target
    return theirs.rcode == "SERVFAIL" and name in names and section(ours.answer) == section(theirs.answer)


def _goes_on(_: World, _question: Question, ours: Answer, theirs: Answer) -> bool:
    return ours.rcode == "YXDOMAIN" and _begins_with(theirs.answer, ours.answer)


def _minimal(_: World, _question: Question, ours: Answer, theirs: Answer) -> bool:
    """Theirs lacks addresses, but none without which a delegation cannot be followed."""
    cuts = {labels(record.owner) for record in ours.authority if record.rtype == "NS"}
    kept = section(theirs.additional)
    missing = [labels(record.owner) for record in ours.additional if not section([record]) <= kept]
    glue = [name for name in missing for up in range(len(name) + 1) if name[up:] in cuts]
    return differences(ours, theirs) == ["additional"] and kept < section(ours.additional) and not glue


def _truncated(_: World, _question: Question, ours: Answer, theirs: Answer) -> bool:
    return ours.tc and theirs.tc and not {"aa", "edns", "question"} & set(differences(ours, theirs))


def _glue_left_out(_: World, _question: Question, ours: Answer, theirs: Answer) -> bool:
    referral = any(record.rtype == "NS" for record in theirs.authority)
    return ours.tc and not theirs.tc and referral and (ours.rcode, ours.aa) == (theirs.rcode, theirs.aa)


def _part_of_glue(_: World, _question: Question, ours: Answer, theirs: Answer) -> bool:
    referral = not ours.aa and any(record.rtype == "NS" for record in theirs.authority)
    fewer = section(theirs.additional) < section(ours.additional)
    return referral and fewer and not theirs.tc and differences(ours, theirs) == ["additional"]


def _compressed(_: World, _question: Question, ours: Answer, theirs: Answer) -> bool:
    """One of both found room for a DNAME and the CNAME made from it."""
    made = any(record.rtype == "DNAME" for record in (*ours.answer, *theirs.answer))
    return ours.tc != theirs.tc and made and not {"aa", "edns", "question"} & set(differences(ours, theirs))


NSD, KNOT, BIND = frozenset({"nsd"}), frozenset({"knot"}), frozenset({"bind"})
EXPLAINED: Sequence[Explained] = (
    Explained(NSD | KNOT | BIND, "RFC 8482 section 4.2: ANY is answered by one HINFO record", _any),
    Explained(
        NSD | KNOT | BIND,
        "RFC 2181 section 9: of a truncated answer the content does not count; ours has none",
        _truncated,
    ),
    Explained(
        NSD | KNOT,
        "RFC 1035 section 4.1.4: compression is optional; Knot points the CNAME made from a DNAME at that one's data,"
        " we at other names, NSD at none",
        _compressed,
    ),
    Explained(
        NSD | BIND,
        "RFC 9471 section 3.1: where glue has no room the answer is truncated; NSD and BIND leave it out",
        _glue_left_out,
    ),
    Explained(NSD | BIND, "minimal responses: additional addresses that no delegation needs may be left out", _minimal),
    Explained(
        BIND,
        "RFC 9471 section 3.1: where glue has no room the answer is truncated; BIND leaves part out, and has less room"
        " than we, as its names keep the case of the zone file",
        _part_of_glue,
        witness=True,
    ),
    Explained(
        KNOT | BIND,
        "RFC 1034 section 4.3.2 step 3a: an alias is followed from step 1 on, so into other zones; Knot and BIND stay"
        " in one",
        _stays_in_zone,
    ),
    Explained(
        NSD,
        "RFC 1034 section 4.3.2 step 2: only the nearest zone counts; to NSD a name exists that has data in another",
        _tree_shared,
        witness=True,
    ),
    Explained(
        NSD,
        "RFC 4035 section 3.1.4.1: the zone right above answers for DS; NSD takes any that has NS records there",
        _ds_from_above,
        witness=True,
    ),
    Explained(
        KNOT | BIND,
        "RFC 8020 section 2: no such name means nothing below it; Knot and BIND say so of a zone that they have, where"
        " the one above does not delegate it",
        _ds_of_a_zone,
    ),
    Explained(KNOT, "RFC 2181 section 5: no record twice; Knot goes round a loop again and again", _round_again),
    Explained(
        BIND,
        "RFC 1034 section 3.6.2: a loop of aliases is an error to signal; BIND does so by SERVFAIL beside the loop",
        _loop,
        witness=True,
    ),
    Explained(KNOT, "RFC 6672 section 3.2: a name too long ends the look-up; Knot goes on", _goes_on, witness=True),
)


def explain(peer: str, world: World, question: Question, ours: Answer, answers: Mapping[str, Answer]) -> str | None:
    """Why the answer of one of `answers` (by peer) differs from ours; None where nothing explains it."""
    agreed = any(
        not differences(ours, answers[other])
        or any(
            other in row.peers and not row.witness and row.covers(world, question, ours, answers[other])
            for row in EXPLAINED
        )
        for other in answers.keys() - {peer}
    )
    for row in EXPLAINED:
        if peer in row.peers and (agreed or not row.witness) and row.covers(world, question, ours, answers[peer]):
            return row.why
    return None
