"""The templates of one engine's zones: made when zones load, up to a bound, and learned from queries beyond it.

A template belongs to a question: its name in lower case, type and class as they stand in a message. Names that do not
exist have their own, bounded room and never evict those that do. Templates for less room than there may be are learned
from queries alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple, TypeAlias

from dnsvip.dns.engine import Engine
from dnsvip.dns.hotpath.marks import ALWAYS
from dnsvip.dns.hotpath.templates import QTYPES, Lack, Template, learn
from dnsvip.dns.protocol.message import IN, UDP_SIZE, Type
from dnsvip.dns.protocol.names import Labels, flat_name
from dnsvip.dns.synthesis.own import OWN
from dnsvip.dns.two_generation_cache import TwoGenerationCache
from dnsvip.dns.zones.places import Zones, authority_node
from dnsvip.dns.zones.record import WILD
from dnsvip.dns.zones.zone import Node
from dnsvip.site import DnssecDenial

LOADED = 1024
"""How many templates are made ahead of questions, at about 0.15 ms and 1 KiB each: all names of a large zone would take
minutes and gigabytes."""

NAMES, OTHERS = 1 << 14, 1 << 12
"""How many more are cached at least, twice as many at most: of names that exist, and of those that do not."""

LABELS = range(1, 25)
"""Lengths of a first label for which answers right below a deciding name are made at load."""

SIGNED_FOR = 3600
"""Seconds that an answer with signatures is kept at most, far less than any of them is valid."""

_CLASS_IN = IN.to_bytes(2, "big")
_ASKED = (Type.AAAA, Type.A, Type.HTTPS)
"""Types queried at every name, existing or not."""


class Templates:
    """The templates of `engine`. Where `before` are those of an engine with the same names, they are shared.

    The first are ready at once; where names have changed, `load` makes them bit by bit, as no change waits for them.
    """

    def __init__(self, engine: Engine, before: Templates | None = None) -> None:
        self._engine = engine
        kept = before if before and before.fits(engine) else None
        self.named: TwoGenerationCache[bytes, Template | None] = (
            kept.named if kept else TwoGenerationCache(NAMES, _weight)
        )
        self._below: TwoGenerationCache[_Below, Template | None] = (
            kept._below if kept else TwoGenerationCache(OTHERS, _weight)
        )
        self._cut: TwoGenerationCache[_Key, tuple[Template, ...]] = (
            kept._cut if kept else TwoGenerationCache(NAMES, lambda _, cuts: sum(_weight(_, cut) for cut in cuts))
        )
        self._proven: TwoGenerationCache[_Gap, _Proven] = (
            kept._proven if kept else TwoGenerationCache(NAMES, lambda _, proven: _weight(_, proven.template))
        )
        self._signed: TwoGenerationCache[bytes, _Proven] = (
            kept._signed if kept else TwoGenerationCache(NAMES, lambda _, proven: _weight(_, proven.template))
        )
        self.loaded: dict[bytes, Template] = kept.loaded if kept else {}
        self._loaded_below: dict[_Below, Template] = kept._loaded_below if kept else {}
        zones = engine.zones.by_apex.values()
        self.signs: bool = kept.signs if kept else any(zone is not None and zone.is_signed for zone in zones)
        """Whether DO makes a difference to any name."""
        self._likely: Iterator[tuple[Labels, int]] = kept._likely if kept else islice(_questions(engine.zones), LOADED)
        if before is None:
            for _ in self.load():
                pass

    def fits(self, engine: Engine) -> bool:
        """Whether that engine answers alike for all names, but for the addresses in the holes."""
        return self._engine.same_names(engine)

    def may_have(self, name: bytes) -> bool:
        """Whether `find` is worth asking for a question (name in lower case, type, class) that is not among `named` and
        `loaded`: not where there is known to be no template."""
        return int.from_bytes(name[-4:-2], "big") in QTYPES and name not in self.named

    def find(self, name: bytes, labels: Labels, again: Callable[[object], bool]) -> Template | None:
        """The template for a question that `may_have` one, whose name is `labels`; learned where `again` says that the
        question, or one like it, comes again."""
        qtype = int.from_bytes(name[-4:-2], "big")
        top = self._top(labels, qtype)
        if top is None:
            return None
        if top == labels:
            return self.named.put(name, self._learn(labels, qtype, top)) if again(name) else None
        key = top, len(name), name[-4:]
        template = self._loaded_below.get(key) or self._below.get(key)
        if template is None and key not in self._below and again(key):
            template = self._below.put(key, self._learn_below(labels, qtype, top))
        if template is None or labels[-len(top) - 1] in template.mentioned:
            return None
        return template

    def fitting(
        self, template: Template, name: bytes, labels: Labels, room: int, again: Callable[[object], bool]
    ) -> Template | None:
        """The template in place of one that does not fit `room`; other arguments as of `find`. One question has as many
        as there are answers to it: one for each additional record set within 1232 bytes, and one with TC."""
        qtype = int.from_bytes(name[-4:-2], "big")
        top = self._top(labels, qtype)
        if top is None:
            return None
        key = name if top == labels else (top, len(name), name[-4:])
        cuts = self._cut.get(key) or ()
        for known in cuts:
            if known.size <= room < known.beyond:
                return known
        if not again((key, room)):
            return None
        learn_cut = self._learn if top == labels else self._learn_below
        cut = learn_cut(labels, qtype, top, room)
        if cut is not None:
            self._cut.put(key, (*cuts, cut))
        return cut

    def proven(
        self, lack: Lack, name: bytes, labels: Labels, now: float, again: Callable[[object], bool]
    ) -> Template | None:
        """The template with the signed proof of a `lack`; other arguments as of `find`. All names of one length that
        are in the same gap have the same, and so have those that compact denial is about; None for NSEC3 and
        zones that were signed elsewhere, where each has proofs of its own. `now` in unix seconds."""
        if lack.zone.keys is None or lack.zone.denial is DnssecDenial.NSEC3:
            return None
        gaps = self._engine.signer.denials.gaps(lack.zone, lack.encloser, labels)
        key = gaps, lack.encloser, len(name), name[-4:]
        known = self._proven.get(key)
        if known is None or not known.holds(now):
            if not again(key):
                return None
            qtype = int.from_bytes(name[-4:-2], "big")
            learned = self._learn(labels, qtype, lack.encloser, UDP_SIZE, now, of_name=gaps is None)
            known = self._proven.put(key, _Proven(learned, now))
        template = known.template
        return None if template is None or labels[-len(lack.encloser) - 1] in template.mentioned else template

    def signed(
        self, name: bytes, read: Callable[[], Labels | None], now: float, again: Callable[[object], bool]
    ) -> Template | None:
        """The template with signatures in place of one with holes, for the name alone that it was learned with, which
        `read` gives; other arguments as of `proven`."""
        known = self._signed.young.get(name) or self._signed.get(name)
        if known is None or not known.holds(now):
            labels, qtype = read(), int.from_bytes(name[-4:-2], "big")
            if labels is None or not again((name, True)):
                return None
            learned = None if self._top(labels, qtype) != labels else self._learn(labels, qtype, labels, UDP_SIZE, now)
            known = self._signed.put(name, _Proven(learned, now))
        return known.template

    def signed_alone(self, name: bytes, labels: Labels, now: float) -> Template | None:
        """The template with signatures for the question of one name alone, whether it exists or not, whose name is
        `labels`. `now` in unix seconds."""
        known = self._signed.get(name)
        if known is None or not known.holds(now):
            known = _Proven(self._learn(labels, int.from_bytes(name[-4:-2], "big"), labels, UDP_SIZE, now), now)
            if name in self.loaded or name in self.named:  # else made-up names would evict the others
                self._signed.put(name, known)
        return known.template

    def _top(self, labels: Labels, qtype: int) -> Labels | None:
        """`lookup.authority_node`; None also where that raises, which is reported with the zone."""
        try:
            return authority_node(self._engine.zones, labels, qtype)
        except Exception as error:  # noqa: BLE001 - the engine gets the question, and the others keep their templates
            self._engine.blame(labels, error)
            return None

    def _learn(
        self,
        labels: Labels,
        qtype: int,
        top: Labels,
        room: int = UDP_SIZE,
        signed_at: float | None = None,
        *,
        of_name: bool = False,
    ) -> Template | None:
        """`templates.learn`; None also where that raises, which is reported with the zone."""
        try:
            return learn(self._engine, labels, qtype, top, room, signed_at, of_name=of_name)
        except Exception as error:  # noqa: BLE001 - as above
            self._engine.blame(labels, error)
            return None

    def _learn_below(self, labels: Labels, qtype: int, top: Labels, room: int = UDP_SIZE) -> Template | None:
        """The template for all names right below `top`, learned with a label that no record is likely to mention."""
        at = len(labels) - len(top) - 1
        other = (*labels[:at], b"\xff" * len(labels[at]), *top)
        if self._top(other, qtype) != top:
            return None
        return self._learn(other, qtype, top, room)

    def load(self) -> Iterator[None]:
        """Make up to LOADED, one for each step: services first, then zone by zone what exists, and what does not. It
        goes on from where the templates with which these are shared have come to."""
        try:
            for labels, qtype in self._likely:
                self._load(labels, qtype)
                yield
        except Exception as error:  # noqa: BLE001 - templates are learned from queries as well
            self._engine.blame((), error)

    def _load(self, labels: Labels, qtype: int) -> None:
        top = self._top(labels, qtype)
        if top is None:
            return
        if top == labels:
            if template := self._learn(labels, qtype, top):
                self.loaded[_question(labels, qtype)] = template
        elif template := self._learn_below(labels, qtype, top):
            question = _question(labels, qtype)
            self._loaded_below[top, len(question), question[-4:]] = template


def _questions(zones: Zones) -> Iterator[tuple[Labels, int]]:
    """Likely questions, the likeliest first."""
    served = [zone for zone in zones.by_apex.values() if zone]
    for name in zones.services:
        if name[0] in OWN:
            continue
        yield from _below(name[1:], LABELS) if name[:1] == (WILD,) else ((name, qtype) for qtype in _ASKED)
    for zone in served:
        yield from ((zone.apex, qtype) for qtype in _types(zone.nodes[zone.apex]))
        yield from _below(zone.apex, LABELS)
    for zone in served:
        for name, node in zone.nodes.items():
            if name[0:1] == (WILD,) or Type.NS in node:
                yield from _below(name[1:] if name[:1] == (WILD,) else name, LABELS)
            elif name != zone.apex:
                yield from ((name, qtype) for qtype in _types(node))


def _weight(_question: object, template: Template | None) -> int:
    """Bytes of a template, of which most are objects."""
    return _OVERHEAD + (2 * template.size if template else 0)


_OVERHEAD = 1000

_Below = tuple[Labels, int, bytes]
"""The name that decides, the length of the question, its type and class."""

_Key: TypeAlias = bytes | _Below

_Gap: TypeAlias = tuple[tuple[int, int] | None, Labels, int, bytes]
"""Gaps of a chain (`Denials.gaps`), None for compact denial; the name that lacks one; the question's length, type and
class."""


class _Proven(NamedTuple):
    """The template of a proof, None where there is none, and when it was signed (unix seconds)."""

    template: Template | None
    since: float

    def holds(self, now: float) -> bool:
        """Whether its signatures are used at `now` (unix seconds)."""
        begin, end = self.template.period if self.template else ALWAYS
        return max(self.since, begin) <= now < min(self.since + SIGNED_FOR, end)


def _types(node: Node) -> Iterator[int]:
    """Types queried at a name: those it has, and those queried at every name."""
    yield from dict.fromkeys((*node, *_ASKED))


def _below(top: Labels, lengths: range) -> Iterator[tuple[Labels, int]]:
    """Questions for names right below `top`, one for each length: such answers differ by length alone."""
    for length in lengths:
        for qtype in _ASKED[:2]:
            yield (b"\xff" * length, *top), qtype


def _question(labels: Labels, qtype: int) -> bytes:
    return flat_name(labels) + qtype.to_bytes(2, "big") + _CLASS_IN
