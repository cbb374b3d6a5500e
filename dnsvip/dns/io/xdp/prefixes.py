"""Has the DNS program identify requesters by their prefixes that have not asked before (programs/dns_identify.h).

It gets the runs of the classifier's own tables (`pages`), what each client's addresses are made of (`records`), and
whom the steps without prefixes identify. After each change all of it is read again only once it is whole: until then
the program leaves to the server who has not asked before. What changed is written in steps, between questions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address

from dnsvip.dns.hotpath.fastpath import FastPath
from dnsvip.dns.hotpath.marks import Hole
from dnsvip.dns.identity.identify import Apart, Requester
from dnsvip.dns.io.xdp import image
from dnsvip.dns.io.xdp.pages import Pages, RunTree
from dnsvip.dns.io.xdp.records import STEPS, CellOf, Records
from dnsvip.dns.synthesis.issuer import Issuer
from dnsvip.site import Step
from dnsvip.site.identity.claims import WIDTHS
from dnsvip.xdp.maps import Map
from dnsvip.xdp.structs import u32


class Prefixes:
    """What one loaded program identifies requesters by. `identifies` is whether sources are identified at all: they are
    not where some speak for others. `has_maker` has the program know what makes addresses, by number."""

    def __init__(
        self,
        maps: Mapping[str, Map],
        listeners: Sequence[str],
        cell_of: CellOf,
        has_maker: Callable[[int, Issuer], bool],
        *,
        sources: bool,
    ) -> None:
        self._maps, self._listeners, self._sources, self._has_maker = maps, listeners, sources, has_maker
        self.is_on = maps["pages"].max_entries > 1
        self._pages = Pages(maps["pages"])
        self._records = Records(maps["records"], maps["record_sets"], cell_of)
        self._trees = {
            (step, version): RunTree(self._pages, width) for step in STEPS for version, width in WIDTHS.items()
        }
        self._trusted = {version: RunTree(self._pages, width) for version, width in WIDTHS.items()}
        self._holes: dict[int, Hole] = {}
        self._new: list[int] = []
        self._special: Sequence[Apart] = ()
        self._work: Iterator[None] | None = None

    @property
    def memory(self) -> int:
        """Bytes of kernel memory of runs and records."""
        return self._pages.array.memory + self._records.array.memory

    def close(self) -> None:
        """Close the descriptors."""
        self._pages.array.close()
        self._records.array.close()

    def use(self, fast: FastPath, generation: int, *, same_names: bool) -> None:
        """Identify as this fast path does, once `work` has been done; the program must have the generation by then."""
        self._fast, self._generation = fast, generation
        if not same_names:  # services may be no more
            self._holes = {}
        self._records.tidy()
        self._new = list(self._holes)
        self._work = self._follow() if self.is_on else None

    def add(self, number: int, hole: Hole) -> None:
        """Have the program know what a maker makes the addresses of a hole of."""
        if self.is_on and number not in self._holes:
            self._holes[number] = hole
            self._new.append(number)
            self._work = self._work or self._follow_makers()

    def forget_makers(self) -> None:
        """Makers have other numbers from now on."""
        self._holes, self._new = {}, []
        self._records.forget()

    @property
    def is_busy(self) -> bool:
        """Whether there is work."""
        return self._work is not None

    @property
    def is_lacking(self) -> bool:
        """Whether there is no room for all prefixes and clients."""
        return self._records.is_lacking or any(tree.is_lacking for tree in self._all_trees())

    def work(self, end: float) -> bool:
        """Write what has changed, until the time is over (`time.monotonic`); whether it has become done."""
        while self._work is not None and time.monotonic() < end:
            try:
                next(self._work)
            except StopIteration:
                self._work = None
                return True
        return False

    def resolver(self, source: bytes, listener: int) -> tuple[bytes, bytes]:
        """Key and value of what the ECS options of a source (4 or 16 bytes) say at a listener."""
        name, classifier = self._listeners[listener], self._fast.engine.tables.classifier
        address = ip_address(source)
        is_trusted = classifier.trusts(address)
        apart = classifier.apart_from(Step.ECS, Requester(address, name, trusted=is_trusted))
        apart = apart._replace(looks=is_trusted and apart.looks)
        return image.resolver(source, listener, self._otherwise(apart, listener), self._generation)

    def _follow(self) -> Iterator[None]:
        classifier = self._fast.engine.tables.classifier
        for (step, version), tree in self._trees.items():
            yield from tree.follow(classifier.claims.prefixes[step][version].runs)
        for version, tree in self._trusted.items():
            yield from tree.follow(classifier.trusted[version].runs)
        aparts = [self._apart(name) for name in self._listeners]
        self._special = [
            Apart(looks=False),
            *(apart._replace(looks=False) if apart.step is Step.LISTENER else Apart(looks=False) for apart in aparts),
        ]
        yield from self._follow_makers()
        sources = [self._otherwise(apart, number) for number, apart in enumerate(aparts)] if self._sources else []
        for generation in (0, self._generation):  # what has it is whole
            trees, trusted = (_roots(each.values()) for each in (self._trees, self._trusted))
            identity = image.identity(generation, len(self._special), trees, trusted, sources)
            self._maps["identities"].put(u32(0), identity)

    def _follow_makers(self) -> Iterator[None]:
        tables = self._fast.engine.tables
        while self._new:
            number = self._new[-1]
            has_maker = lambda issuer, number=number: self._has_maker(number, issuer)  # noqa: E731
            yield from self._records.follow(
                number, self._holes[number], tables, self._special, self._generation, has_maker
            )
            self._new.remove(number)

    def _apart(self, name: str) -> Apart:
        """Whom requesters without ECS are at a listener whose source is in no prefix."""
        unknown = Requester(ip_address("::"), name, trusted=False)
        return self._fast.engine.tables.classifier.apart_from(Step.SOURCE, unknown)

    def _otherwise(self, apart: Apart, listener: int) -> bytes:
        record = image.LEFT
        if apart.is_told and apart.step is Step.SOURCE:
            record = len(self._special) + apart.owner
        elif apart.is_told:
            record = 1 + listener if apart.step is Step.LISTENER else 0
        return image.otherwise(record, looks=apart.looks, step=STEPS.index(Step.SOURCE) if apart.step else 0)

    def _all_trees(self) -> Iterator[RunTree]:
        yield from self._trees.values()
        yield from self._trusted.values()


def _roots(trees: Iterable[RunTree]) -> Sequence[tuple[int, int]]:
    return [(tree.root, tree.levels) for tree in trees]
