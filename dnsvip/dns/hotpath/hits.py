"""What the fast path makes of a message: an answer at hand, or what is known of one that takes longer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from dnsvip.dns.asked import Known
from dnsvip.dns.counters import CounterCell, ZoneCell
from dnsvip.dns.hotpath.opts import Opt
from dnsvip.dns.hotpath.templates import Template
from dnsvip.dns.identity.identify import Classified, Sender
from dnsvip.dns.protocol.parser import Question
from dnsvip.dns.reply import Reply
from dnsvip.dns.synthesis.issuer import Vip
from dnsvip.dns.zones.lookup import Owner

AT = 10
"""Where the question begins in a message without its id."""


class Decided(NamedTuple):
    """What is known of an answer that the engine gave: as in `Template`."""

    question_size: int
    size: int
    owner: Owner | None
    aa: bool
    truncated: bool
    zone: ZoneCell


Hit: TypeAlias = tuple[bytes, CounterCell, Template | Decided, Opt]
"""An answer after its id, what to count it with, and what it consists of (`reply_of`)."""


class Keep(NamedTuple):
    """Where an answer is kept: under a key, of a listener, with its `width` as in `keys`; and what its OPT record asked
    for."""

    key: bytes
    listener: str
    width: int
    opt: Opt


class Miss(NamedTuple):
    """A message for the engine: its place in the batch, and what is known of it (None: nothing). The reply to one with
    `keep` is for `FastPath.keep`, and `tail` is for `FastPath.learn` with the message as parsed. One that is `unsigned`
    is for `FastPath.finish`, in its turn, as signatures cost more than all the rest."""

    place: int
    known: Known | None
    keep: Keep | None = None
    tail: bytes | None = None
    unsigned: Unsigned | None = None

    @classmethod
    def of(cls, unsigned: Unsigned) -> Miss:
        """One that lacks its signatures alone."""
        return cls(unsigned.job.place, Known(unsigned.job.sender), unsigned=unsigned)


class Batch(NamedTuple):
    """Messages as they came in. Arguments as those of `answers`; `stream`: not as datagrams."""

    keys: Sequence[bytes]
    ids: bytearray
    listener: str
    width: int
    now: float
    stream: bool = False


class Job(NamedTuple):
    """A message recognized: its place in the batch, all of it but the id, where its question ends, and what the answer
    consists of. A template `of_name` needs the `name` with type and class, and the question."""

    place: int
    wire: bytes
    end: int
    template: Template
    opt: Opt
    sender: Sender
    key: bytes
    name: bytes = b""
    question: Question | None = None


class Unsigned(NamedTuple):
    """A message recognized, with the addresses of its answer, their ECS scope, for whom they were made and when (unix
    seconds): all but its signatures."""

    job: Job
    vips: Sequence[Vip]
    scope: int
    who: Classified | None
    at: float


class Signed(NamedTuple):
    """A message that wants signatures, which the engine makes: what is known of it, and what its OPT record asks; None
    where the answer is not for keeping."""

    known: Known
    opt: Opt | None


class Unlearned(NamedTuple):
    """A message for which there is a template, but what its question is followed by has not been seen before."""

    known: Known
    tail: bytes


def reply_of(hit: Hit, id_: bytes) -> Reply:
    """A hit as the Reply that the engine would have given, for rate limiting and the query log."""
    answer, cell, template, opt = hit
    outcome, rcode, step, kind, tier = cell.key
    return Reply(
        id_ + answer,
        outcome,
        rcode,
        question=answer[AT : AT + template.question_size],
        opt=answer[template.size - 2 :],
        aa=template.aa,
        truncated=template.truncated,
        owner=template.owner,
        cookie_valid=opt.cookie_valid,
        step=step,
        kind=kind,
        tier=tier,
    )
