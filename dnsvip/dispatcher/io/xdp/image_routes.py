"""Compiles the rules of clusters for the kernel program: the masks that the reference computed (dispatcher/routes.py),
in tables of the site for narrow fields, and in map `masks` for wide ones and for clients. Bytes out."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence

from dnsvip.dispatcher.io.xdp.id_allocator import IdAllocator
from dnsvip.dispatcher.io.xdp.kernel_types import TYPES, absent
from dnsvip.dispatcher.io.xdp.payload_fields import NOWHERE, carried, field_at, places_of
from dnsvip.dispatcher.routes import CompiledRules, Masks, Router
from dnsvip.errors import ObjectError, PlatformError
from dnsvip.site import Cluster, Evidence, Site
from dnsvip.site.routing import CLIENT
from dnsvip.xdp.structs import u64

NARROW_BITS = 8
"""A field of so many bits has a table with all of its values, as long as there is room for it."""


class Rules:
    """The rules of one site. `entries` are those of map `masks`, `tables` their tables' numbers, `masks` the site's."""

    def __init__(self, site: Site, router: Router, ids: IdAllocator, pools: Mapping[str, int]) -> None:
        self._site, self._router, self._ids, self._pools = site, router, ids, pools
        self._bounds, self._none = TYPES.constants("bounds"), absent()
        self._masks = array("Q")
        self.entries: dict[bytes, bytes] = {}
        self.tables: set[int] = set()
        self.by_cluster = {name: self._rules(name, rules) for name, rules in router.rules.items()}
        """A `struct rules` by cluster."""

    @property
    def masks(self) -> bytes:
        """The member `masks` of `struct site`."""
        return self._masks.tobytes().ljust(8 * self._bounds["MAX_MASKS"], b"\0")

    def _rules(self, name: str, rules: CompiledRules) -> bytes:
        numbers = TYPES.words("evidence", "EVIDENCE_")
        evidence = array("Q", bytes(8 * len(Evidence)))
        for one in Evidence:
            evidence[numbers[one.value]] = rules.proof.of(one.value)
        bound, no_priority = self._bounds["MAX_CONDITIONS"], TYPES.constants("absent")["NO_PRIORITY"]
        if len(rules.attributes) > bound:
            limit = PlatformError(f'rules name {len(rules.attributes)} attributes; mode = "xdp" takes at most {bound}')
            raise ObjectError(f"cluster.{name}.select", limit)
        return TYPES.struct("rules").pack_sparse(
            evidence=evidence.tobytes(),
            nobody=rules.nobody,
            count=len(rules.rules),
            tiers=self._tiers(rules.tier),
            conditions=len(rules.attributes),
            names_clients=any(CLIENT in rule.when for rule in rules.rules),
            client=self._in_map(rules.client),
            condition=b"".join(self._condition(name, *one) for one in rules.attributes.items()),
            routes=b"".join(self._route(rule.pool, rule.dscp) for rule in rules.rules),
            priorities=bytes(no_priority if rule.priority is None else rule.priority for rule in rules.rules),
        )

    def _route(self, pool: str, dscp: int | None) -> bytes:
        no_dscp = TYPES.constants("absent")["NO_DSCP"]
        return TYPES.struct("route").pack(
            pool=self._pools.get(pool, NO_POOL), dscp=no_dscp if dscp is None else dscp, rule=0
        )

    def _tiers(self, masks: Masks) -> int:
        """Where the masks of the tiers begin, by their numbers."""
        numbers = {self._ids.tiers[name]: masks.of(name) for name in self._site.tiers}
        first = self._table([numbers.get(number, 0) for number in range(max(numbers, default=-1) + 1)])
        if first is None:
            limit = PlatformError('rules of too many clusters name tiers; use fewer, or mode = "user"')
            raise ObjectError("cluster", limit)
        return first

    def _condition(self, cluster: str, name: str, masks: Masks) -> bytes:
        owner = self._site.clusters[cluster]
        assert isinstance(owner, Cluster)  # noqa: S101 - only those have attributes
        places = [places_of(parts).get(name, NOWHERE) for parts in carried(owner)]
        bits = max(width for _, width in places)
        first = self._table([masks.of(value) for value in range(1 << bits)]) if bits <= NARROW_BITS else None
        return self._in_map(masks, places) if first is None else self._pack(places, 0, first, 0)

    def _table(self, masks: list[int]) -> int | None:
        """The place of some masks in the site's; None where there is no room."""
        first = len(self._masks)
        if first + len(masks) > self._bounds["MAX_MASKS"]:
            return None
        self._masks.extend(masks)
        return first

    def _in_map(self, masks: Masks, places: Sequence[tuple[int, int]] = ()) -> bytes:
        pairs = {(value, mask) for value, mask in masks.by_value.items() if isinstance(value, int)}
        if not pairs:
            return self._pack(places, 0, self._none, masks.others)
        table = self._ids.table(frozenset(pairs))
        self.tables.add(table)
        pack_key = TYPES.struct("value_key").pack
        for value, mask in pairs:
            self.entries[pack_key(table=table, value=value)] = u64(mask)
        return self._pack(places, table, self._none, masks.others)

    def _pack(self, places: Sequence[tuple[int, int]], table: int, first: int, others: int) -> bytes:
        fields = b"".join(field_at(place) for place in places)
        return TYPES.struct("condition").pack(field=fields, table=table, first=first, others=others)


NO_POOL = TYPES.constants("routed")["NO_POOL"]
