"""What a message is for the fast path: the template of its question, and what goes with it.

It reads question names with `read_name` as everybody does, and only where no template fits their bytes; options of
an OPT record have their own walk in `opts`, as a parsed message per cookie would double the cost of a query. It parses
no message itself: a requester could make each cost as much as a miss, and would not wait for its turn.
"""

from __future__ import annotations

from dnsvip.dns.asked import Known
from dnsvip.dns.engine import Engine
from dnsvip.dns.hotpath.compiled import Templates
from dnsvip.dns.hotpath.hits import AT, Batch, Job, Signed, Unlearned
from dnsvip.dns.hotpath.opts import NO_OPT, Opt, Opts, without_padding
from dnsvip.dns.hotpath.templates import Template
from dnsvip.dns.identity.identify import Requester, Sender
from dnsvip.dns.listeners import Door
from dnsvip.dns.protocol.message import MAX_SIZE
from dnsvip.dns.protocol.names import Labels, NameFault, lowered, read_name
from dnsvip.dns.protocol.parser import Question

LONGEST = 512
"""Bytes of the longest message that is recognized, and so remembered: others are the engine's. Queries padded to blocks
(RFC 8467) are shorter."""

SEEN = 1 << 15
"""How many keys are remembered to have come, so that what comes once is not kept."""

_ONE_QUESTION = b"\0\1\0\0\0\0\0"
_CLASS_IN = b"\0\1"
_OF_STREAMS = frozenset((b"\0\x0b", b"\0\x0c"))
"""The options edns-tcp-keepalive (RFC 7828) and padding (RFC 7830)."""

FLAGS_AT, DO, CO = 7, 0x80, 0x40
"""Where the flags are in an OPT record, and the bits for DNSSEC (RFC 3225 section 3) and compact answers (RFC 9824
section 5.1) in their first octet."""


class Recognizer:
    """Recognizes messages by the templates of an engine, the doors of its listeners and the OPT records in `opts`."""

    def __init__(self, engine: Engine, templates: Templates, opts: Opts) -> None:
        self._templates, self._opts = templates, opts
        self._loaded, self._named = templates.loaded, templates.named
        self._doors, self._fresh = engine.doors, engine.tables.vips.fresh
        self._seen: set[int] = set()

    def recognize(self, batch: Batch, place: int, sender: Sender) -> Job | Signed | Unlearned | Known:
        """The template for a message and what goes with it; for all that is unusual, what has been read of it: to read
        on is left to whoever answers it, as it may take long."""
        key = batch.keys[place]
        wire = key[batch.width :]
        door = self._doors.get(batch.listener)
        if door is not None and not (door.lets(sender.requester.source) and door.knows(sender.identity)):
            return Known(sender)
        if not 15 <= len(wire) <= LONGEST - 2 or wire[0] > 1 or wire[2:9] != _ONE_QUESTION or wire[9] > 1:
            return Known(sender)
        end = wire.find(0, AT) + 5
        if end < 15 or wire[end - 2 : end] != _CLASS_IN or (batch.stream and _is_own(wire[AT:end], sender.requester)):
            return Known(sender)
        name = wire[AT : end - 5].lower() + wire[end - 5 : end]
        template = self._loaded.get(name) or self._named.young.get(name) or self._named.get(name)
        question = None
        if template is None and self._templates.may_have(name):
            question = read_question(wire, end, name)
            if question is not None:
                template = self._templates.find(name, question.key, self.again)
        opt: Opt | None = NO_OPT
        if template is not None and wire[9]:
            tail = without_padding(wire[end:]) if batch.stream else wire[end:]
            opt = self._opt(tail, sender, batch, len(wire) - end)
            if opt is None:
                return Unlearned(Known(sender, question=question), tail)
        elif len(wire) != end:
            template = None
        if template is not None and template.signed and opt is not None and wire[9] and wire[end + FLAGS_AT] & DO:
            if not _is_special(template, opt, door, edns=1):
                with_signatures = self._with_signatures(template, wire, end, name, question, batch.now)
                return (
                    Job(place, wire, end, with_signatures, opt, sender, key, name, question)
                    if with_signatures is not None and _fits(with_signatures, opt, batch)
                    else Signed(Known(sender, question=question), None if self.is_fresh(template) else opt)
                )
            template = None
        if template is not None and opt is not None and not _fits(template, opt, batch):
            question = question or read_question(wire, end, name)
            template = question and self._fitting(template, name, question, opt, batch)
        if template is None or opt is None or _is_special(template, opt, door, edns=wire[9]):
            return Known(sender, question=question)
        return Job(place, wire, end, template, opt, sender, key)

    def _fitting(self, template: Template, name: bytes, question: Question, opt: Opt, batch: Batch) -> Template | None:
        """The template in place of one that does not fit; over a stream, long answers are the engine's."""
        if batch.stream:
            return None
        return self._templates.fitting(template, name, question.key, opt.room, self.again)

    def _opt(self, tail: bytes, sender: Sender, batch: Batch, size: int) -> Opt | None:
        """What the OPT record asks for, which was `size` bytes long with its padding; None where that is not known."""
        if batch.stream and _is_of_streams(tail):
            return None
        opt = self._opts.known.get(tail) or self._opts.find(tail, sender.requester.source.packed, batch.now)
        if opt is not None and len(tail) < size and sender.requester.transport.encrypted:
            return opt._replace(padded=True)
        return opt

    def _with_signatures(
        self, template: Template, wire: bytes, end: int, name: bytes, question: Question | None, now: float
    ) -> Template | None:
        """The template with signatures in place of one without; other arguments as in `recognize`."""
        if wire[end + FLAGS_AT] & CO:
            return None
        if template.lack is not None:
            return question and self._templates.proven(template.lack, name, question.key, now, self.again)
        if not template.holes:
            return None  # all askers have the same answer, which is kept whole

        def read() -> Labels | None:
            read = question or read_question(wire, end, name)
            return read and read.key

        return self._templates.signed(name, read, now, self.again)

    def is_fresh(self, template: Template) -> bool:
        """Whether each answer has addresses of its own, so that none is kept."""
        return bool(self._fresh) and any(hole.service.cluster in self._fresh for hole in template.holes)

    def again(self, key: object) -> bool:
        """Whether this was seen recently."""
        mark, seen = hash(key), self._seen
        if mark in seen:
            return True
        if len(seen) >= SEEN:
            self._seen = seen = set()
        seen.add(mark)
        return False


def _is_special(template: Template, opt: Opt, door: Door | None, edns: int) -> bool:
    """Whether the template's answer is not that of the engine: it has an option of its own, or depends on whom ECS
    identifies."""
    return (bool(edns) and not template.by_edns) or (door is not None and door.known and opt.ecs is not None)


def _fits(template: Template, opt: Opt, batch: Batch) -> bool:
    """Whether an answer is the one that there is room for; over a stream, where nothing was left out of it."""
    return template.beyond > MAX_SIZE if batch.stream else template.size <= opt.room


def _is_own(question: bytes, requester: Requester) -> bool:
    """Whether a question may be for what clients ask for themselves, at names with a label `_...` (`synthesis.own`)."""
    return b"_" in question and bool(requester.tls or requester.token)


def _is_of_streams(tail: bytes) -> bool:
    """Whether an OPT record asks for what only streams give, so that its answer is the engine's."""
    at, end = 11, len(tail)
    while at + 4 <= end:
        if tail[at : at + 2] in _OF_STREAMS:
            return True
        at += 4 + int.from_bytes(tail[at + 2 : at + 4], "big")
    return False


def read_question(wire: bytes, end: int, name: bytes) -> Question | None:
    """The question of a message without its id; None where its first zero byte is not the end of its name."""
    try:
        qname, at = read_name(wire, AT)
    except NameFault:
        return None
    if at != end - 4:
        return None
    key = qname if name.startswith(wire[AT:at]) else lowered(qname)
    return Question(qname, key, end + 2)
