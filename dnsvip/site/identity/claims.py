"""Which client claims what, compiled once and then updated client by client: for DNS, and for dispatchers.

`changed` returns new Claims that share everything the change does not touch. Internally a client is a number; all
clients that are not enabled are the number IDLE, so that their claims still shadow weaker ones. It knows neither
queries nor the order of steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv6Address
from typing import TypeAlias

from dnsvip.site import Client, ClientState, Match, Step
from dnsvip.site.cow_map import CowMap
from dnsvip.site.identity.prefixes import NOBODY, PrefixTable, pack

WIDTHS: Mapping[int, int] = {4: 32, 6: 128}
"""IP version -> bits of its addresses."""

IDLE = 1
"""The number of all clients that are not enabled, which are treated alike."""

PREFIX_STEPS = (Step.ECS, Step.SOURCE)

PAGE = 1024
"""Clients per page."""

PrefixTables: TypeAlias = Mapping[int, PrefixTable]
"""IP version -> the prefixes of one step."""

Difference: TypeAlias = tuple[str, Client | None, Client | None]
"""A client's name and what it was and is, None where there is none (`cow_map.difference`)."""

_Free: TypeAlias = tuple[int, "_Free"] | None
_Claim: TypeAlias = tuple[Match, int]


class Claims:
    """The claims of all clients: `words` by step for what is compared whole, `prefixes` by step and IP version. Other
    `steps` than these do not count."""

    __slots__ = ("_free", "_pages", "_steps", "_used", "prefixes", "words")

    def __init__(self, clients: Iterable[Client] = (), steps: Iterable[Step] = tuple(Step)) -> None:
        self._steps = frozenset(steps)
        self._pages: list[list[Client | None]] = [[None] * PAGE]
        self._used = IDLE + 1
        self._free: _Free = None
        claims = (
            (match, number) for client in clients for number in [self._give(client)] for match in self._counted(client)
        )
        words: dict[Step, list[tuple[str, int]]] = {step: [] for step in Step}
        split: dict[tuple[Step, int], list[int]] = {(step, v): [] for step in PREFIX_STEPS for v in WIDTHS}
        for match, owner in claims:
            if match.step in PREFIX_STEPS:
                version, address, length = parse_network(match.value)
                split[match.step, version].append(pack(address, length, owner))
            else:
                words[match.step].append((match.value, owner))
        self.words: Mapping[Step, CowMap[str, int]] = {
            step: CowMap(pairs) for step, pairs in words.items() if step not in PREFIX_STEPS
        }
        self.prefixes: Mapping[Step, PrefixTables] = {
            step: {version: PrefixTable.of_packed(split[step, version], width) for version, width in WIDTHS.items()}
            for step in PREFIX_STEPS
        }

    def client(self, number: int) -> Client | None:
        """The client with a number."""
        return self._pages[number // PAGE][number % PAGE]

    @property
    def pages(self) -> Sequence[Sequence[Client | None]]:
        """The clients by their numbers, PAGE in each; a page is not altered once there are claims."""
        return self._pages

    @property
    def used(self) -> int:
        """The first number that no client has had."""
        return self._used

    def any(self, step: Step) -> bool:
        """Whether any client is identified by a step."""
        if step in PREFIX_STEPS:
            return any(len(table) for table in self.prefixes[step].values())
        return bool(self.words[step])

    def changed(self, differences: Iterable[Difference]) -> Claims:
        """The claims after some clients changed; what one releases another may claim at once."""
        new: Claims = Claims.__new__(Claims)
        new._pages, new._used, new._free = list(self._pages), self._used, self._free
        new._steps = self._steps
        new.words, new.prefixes = self.words, self.prefixes
        gone: list[Match] = []
        put: list[_Claim] = []
        owned: set[int] = set()
        for _, old, client in differences:
            before = self._number(old) if old else NOBODY
            after = new._follow(before, client, owned) if client else NOBODY
            if before > IDLE and after <= IDLE:
                new._set(before, None, owned)
                new._free = (before, new._free)
            kept = frozenset(client.match) if client else frozenset()
            gone += [match for match in self._counted(old) if match not in kept]
            known = frozenset(old.match) if old and before == after else frozenset()
            put += [(match, after) for match in self._counted(client) if match not in known]
        new._apply(gone, put)
        return new

    def _apply(self, gone: Sequence[Match], put: Sequence[_Claim]) -> None:
        words, prefixes = dict(self.words), dict(self.prefixes)
        for step in {match.step for match in gone} | {match.step for match, _ in put}:
            less = [match.value for match in gone if match.step is step]
            more = [(match.value, owner) for match, owner in put if match.step is step]
            if step in PREFIX_STEPS:
                prefixes[step] = _changed(prefixes[step], less, more)
            else:
                words[step] = words[step].changed(less, more)
        self.words, self.prefixes = words, prefixes

    def _counted(self, client: Client | None) -> Sequence[Match]:
        """The matches of a client that count here."""
        if client is None or len(self._steps) == len(Step):
            return client.match if client else ()
        return [match for match in client.match if match.step in self._steps]

    def _number(self, client: Client) -> int:
        """The number of a present client, by its claims; without claims it has none."""
        if client.state is not ClientState.ENABLED:
            return IDLE
        for match in self._counted(client):
            if match.step in PREFIX_STEPS:
                version, address, length = parse_network(match.value)
                number = self.prefixes[match.step][version].exactly(address, length)
            else:
                number = self.words[match.step].get(match.value, NOBODY)
            holder = self.client(number)
            if holder is not None and holder.name == client.name:
                return number
        return NOBODY

    def _give(self, client: Client) -> int:
        """A number for a new client, before anybody else reads these pages."""
        if client.state is not ClientState.ENABLED:
            return IDLE
        if not self._counted(client):
            return NOBODY
        number = self._used
        self._used += 1
        if number // PAGE == len(self._pages):
            self._pages.append([None] * PAGE)
        self._pages[number // PAGE][number % PAGE] = client
        return number

    def _follow(self, number: int, client: Client, owned: set[int]) -> int:
        """The number of a client that had another, IDLE or none before."""
        if client.state is not ClientState.ENABLED:
            return IDLE
        if not self._counted(client):
            return NOBODY
        if number <= IDLE and self._free:
            number, self._free = self._free
        elif number <= IDLE:
            number = self._used
            self._used += 1
        self._set(number, client, owned)
        return number

    def _set(self, number: int, client: Client | None, owned: set[int]) -> None:
        """Put a client under a number; its page is copied first unless it is `owned`."""
        page = number // PAGE
        if page == len(self._pages):
            self._pages.append([None] * PAGE)
            owned.add(page)
        elif page not in owned:
            self._pages[page] = list(self._pages[page])
            owned.add(page)
        self._pages[page][number % PAGE] = client


def is_readable(match: Match) -> bool:
    """Whether a match can be compiled at all."""
    try:
        return match.step not in PREFIX_STEPS or bool(parse_network(match.value))
    except Exception:  # noqa: BLE001 - what it raises is reported with its client
        return False


def parse_network(text: str) -> tuple[int, int, int]:
    """IP version, address and prefix length of a network in canonical text."""
    address, _, length = text.partition("/")
    if ":" in address:
        return 6, _ipv6(address), int(length)
    a, b, c, d = address.split(".")
    return 4, int(a) << 24 | int(b) << 16 | int(c) << 8 | int(d), int(length)


def _ipv6(text: str) -> int:
    """Three times as fast as IPv6Address for canonical text; parsing dominates the time to build a table."""
    left, gap, right = text.partition("::")
    if "." in right:  # an IPv4 address at the end, as some versions of Python write it
        return int(IPv6Address(text))
    high = [int(part, 16) for part in left.split(":")] if left else []
    low = [int(part, 16) for part in right.split(":")] if right else []
    number = 0
    for part in high:
        number = number << 16 | part
    number <<= 16 * (8 - len(high)) if gap else 0
    for place, part in enumerate(reversed(low)):
        number |= part << 16 * place
    return number


def prefix_tables(networks: Iterable[str]) -> PrefixTables:
    """Tables in which every network has an owner."""
    split: dict[int, list[tuple[int, int, int]]] = {version: [] for version in WIDTHS}
    for version, address, length in map(parse_network, networks):
        split[version].append((address, length, IDLE))
    return {version: PrefixTable(prefixes, WIDTHS[version]) for version, prefixes in split.items()}


def _changed(tables: PrefixTables, gone: Iterable[str], put: Iterable[tuple[str, int]]) -> PrefixTables:
    less: dict[int, list[tuple[int, int]]] = {version: [] for version in tables}
    more: dict[int, list[tuple[int, int, int]]] = {version: [] for version in tables}
    for text in gone:
        version, address, length = parse_network(text)
        less[version].append((address, length))
    for text, owner in put:
        version, address, length = parse_network(text)
        more[version].append((address, length, owner))
    return {version: table.changed(less[version], more[version]) for version, table in tables.items()}
