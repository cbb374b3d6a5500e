"""Who asks: the first step of `classify.order` that knows the asker decides.

Strong identities (TSIG, TLS certificate, token) are told apart from claims (ECS, RFC 7871) and from
the source prefix only by their place in that order. Pure: it is given what the transport has
already verified, and it reads tables compiled from the snapshot, never the snapshot itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from dnsvip.dns.prefixes import NOBODY, PrefixTable
from dnsvip.model import Client, ClientState, Snapshot, Step

WIDTHS: Mapping[int, int] = {4: 32, 6: 128}
"""IP version -> bits of its addresses."""


@dataclass(frozen=True, slots=True)
class Ecs:
    """An EDNS Client Subnet option: `source_prefix` bits of `address` count (RFC 7871 section 6)."""

    address: IPv4Address | IPv6Address
    source_prefix: int


@dataclass(frozen=True, slots=True)
class Asker:
    """What is known of whoever sent a query. `tsig`, `tls` and `token` are names already verified."""

    source: IPv4Address | IPv6Address
    listener: str = "default"
    ecs: Ecs | None = None
    tsig: str | None = None
    tls: str | None = None
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Classified:
    """The client (None: anonymous), the step that decided (None: no step did), and what ECS had to do with it.

    `scope` is the ECS scope prefix length of the classification, 0 where ECS was absent, not trusted or
    not looked at; `ecs` is the option where it was looked at.
    """

    client: Client | None
    step: Step | None
    scope: int = 0
    ecs: Ecs | None = None


class Classifier:
    """The clients' matches of one snapshot, by step.

    A disabled or revoked client still matches, so that no weaker step and no wider prefix takes it for
    somebody else, but it is classified as nobody: it is answered as an anonymous client is.
    The step `geo` has no data in this version and never matches.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        site = snapshot.site
        self._clients: list[Client | None] = [None, None]
        found: dict[Step, dict[str, int]] = {step: {} for step in Step}
        for client in site.clients.values():
            owner = self._number(client)
            for match in client.match:
                found[match.step][match.value] = owner
        self._ecs = _prefix_tables(found[Step.ECS].items())
        self._trusted = _prefix_tables((str(network), 1) for network in site.classify.trust_ecs_from)
        finders = _finders(found)
        self._order = [(step, finders.get(step)) for step in site.classify.order if step in finders or step is Step.ECS]

    def classify(self, asker: Asker) -> Classified:
        """Who this is, by the first step that knows."""
        scope, ecs = 0, None
        for step, find in self._order:
            if find:
                owner = find(asker)
            elif asker.ecs and self.trusts(asker.source):
                ecs = asker.ecs
                owner, scope = self._ecs[ecs.address.version].match(int(ecs.address), ecs.source_prefix)
            else:
                continue
            if owner:
                return Classified(self._clients[owner], step, scope, ecs)
        return Classified(None, None, scope, ecs)

    def trusts(self, source: IPv4Address | IPv6Address) -> bool:
        """Whether ECS from this resolver counts (`classify.trust_ecs_from`)."""
        return bool(self._trusted[source.version].owner(int(source)))

    def _number(self, client: Client) -> int:
        """What stands for a client in the tables: 1 for all that are not enabled, as these are treated alike."""
        if client.state is not ClientState.ENABLED:
            return 1
        self._clients.append(client)
        return len(self._clients) - 1


def _finders(found: Mapping[Step, Mapping[str, int]]) -> dict[Step, Callable[[Asker], int]]:
    """A look-up for each step that some client uses; ECS, which also yields a scope, is not among them."""
    tsig, tls, token, listener = (found[step] for step in (Step.TSIG, Step.TLS, Step.TOKEN, Step.LISTENER))
    sources = _prefix_tables(found[Step.SOURCE].items())
    finders: dict[Step, Callable[[Asker], int]] = {
        Step.TSIG: lambda asker: tsig.get(asker.tsig.lower().rstrip("."), NOBODY) if asker.tsig else NOBODY,
        Step.TLS: lambda asker: tls.get(asker.tls, NOBODY) if asker.tls else NOBODY,
        Step.TOKEN: lambda asker: token.get(asker.token, NOBODY) if asker.token else NOBODY,
        Step.SOURCE: lambda asker: sources[asker.source.version].owner(int(asker.source)),
        Step.LISTENER: lambda asker: listener.get(asker.listener, NOBODY),
    }
    return {step: find for step, find in finders.items() if found[step]}


def _prefix_tables(claims: Iterable[tuple[str, int]]) -> dict[int, PrefixTable]:
    """One table per IP version from (network as text, owner)."""
    split: dict[int, list[tuple[int, int, int]]] = {4: [], 6: []}
    for text, owner in claims:
        address, _, length = text.partition("/")
        first = ip_address(address)
        split[first.version].append((int(first), int(length), owner))
    return {version: PrefixTable(prefixes, WIDTHS[version]) for version, prefixes in split.items()}
