"""The keys that sign zones, in the database: made when a zone is signed for the first time, destroyed with the zone.

A zone that is no longer signed keeps its keys: its DS may still be at the parent, and signing can be turned on again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.errors import InvalidSite, Problem, SecretError
from dnsvip.site import DnssecAlgorithm, Zone, ZoneKey
from dnsvip.site.plan import Change
from dnsvip.site.zone_keys import SECRET_BYTES, KeyState, Make, followed
from dnsvip.store.access.audit import AuditEntry
from dnsvip.store.database.damage import LATEST, readable, shown, whole
from dnsvip.store.database.database import BATCH, in_batches
from dnsvip.store.database.tables import zone_key
from dnsvip.store.secrets.kek import KeyEncryptionKey, zone_key_context

ZONE_KEY = "zone_key"
"""The kind of a key of a zone in problems; its name is ZONE/NUMBER."""


async def load_zone_keys(
    connection: AsyncConnection,
    kek: KeyEncryptionKey,
    broken: list[Problem],
    zones: Iterable[str] | None = None,
) -> dict[str, tuple[ZoneKey, ...]]:
    """The keys by zone, or those of some zones. One that cannot be read is left out and added to `broken`."""
    query = select(zone_key).order_by(zone_key.c.zone, zone_key.c.number)
    some = None if zones is None else list(in_batches(sorted(zones), BATCH))
    queries = [query] if some is None else [query.where(zone_key.c.zone.in_(names)) for names in some]
    keys: dict[str, tuple[ZoneKey, ...]] = {}
    for one in queries:
        for row in await connection.execute(one):
            try:
                keys[row.zone] = (*keys.get(row.zone, ()), zone_key_from(row, kek))
            except Exception as error:  # noqa: BLE001 - it costs its zone, not the others
                why = str(error) if isinstance(error, SecretError) else type(error).__name__
                where = f"{ZONE_KEY}.{shown(row.zone)}/{shown(row.number)}"
                broken.append(
                    Problem(where, f"what is stored of it cannot be read ({why})", about=("zone", shown(row.zone)))
                )
    return keys


async def follow_zone(
    connection: AsyncConnection, kek: KeyEncryptionKey, change: Change, now: float, _generation: int
) -> list[AuditEntry]:
    """Create, keep or destroy the keys of a zone as its change requires. The audit entry is that of the zone.

    Raises InvalidSite where its keys cannot follow: another algorithm takes over while a zone is signed, by a rollover.
    """
    name, zone = change.name, change.after
    if not isinstance(zone, Zone):
        await connection.execute(delete(zone_key).where(zone_key.c.zone == name))
        return []
    if zone.dnssec is None or not zone.is_signed:
        return []
    held, algorithm = await _algorithms(connection, name), zone.dnssec.algorithm
    before = change.before.dnssec if isinstance(change.before, Zone) and change.before.is_signed else None
    if held and algorithm not in held and before is None:
        text = f"must be {held[0]!r}, as the zone's keys are; once it is signed, another algorithm can take over"
        raise InvalidSite([Problem(f"zone.{name}.dnssec.algorithm", text)])
    if held and before and (before.split, before.algorithm) == (zone.dnssec.split, algorithm):
        return []  # also where one of them cannot be read
    keys = await keys_of(connection, kek, name)
    try:
        step = followed(zone.dnssec, keys, int(now), maker(keys, zone, now))
    except ValueError as error:
        raise InvalidSite([Problem(f"zone.{name}.dnssec", str(error))]) from None
    await store_zone_keys(connection, kek, name, keys, step.keys)
    return []


async def _algorithms(connection: AsyncConnection, name: str) -> list[str]:
    return list((await connection.execute(select(zone_key.c.algorithm).where(zone_key.c.zone == name))).scalars())


async def keys_of(connection: AsyncConnection, kek: KeyEncryptionKey, name: str) -> tuple[ZoneKey, ...]:
    """The keys of a zone; raises InvalidSite where one of them cannot be read."""
    broken: list[Problem] = []
    keys = (await load_zone_keys(connection, kek, broken, [name])).get(name, ())
    if broken:
        raise InvalidSite(broken)
    return keys


async def store_zone_keys(
    connection: AsyncConnection,
    kek: KeyEncryptionKey,
    name: str,
    before: Sequence[ZoneKey],
    after: Sequence[ZoneKey],
) -> None:
    """Write what has changed between two states of a zone's keys."""
    for key in before:
        if key not in after:
            same = zone_key.c.zone == name, zone_key.c.number == key.number
            await connection.execute(delete(zone_key).where(*same))
    for key in after:
        if key not in before:
            await connection.execute(insert(zone_key).values(zone_key_row(name, key, kek)))


def maker(keys: Sequence[ZoneKey], zone: Zone, now: float) -> Make:
    """What makes the next key of a zone."""
    algorithm = zone.dnssec.algorithm if zone.dnssec else DnssecAlgorithm.ECDSAP256SHA256
    number = next_number(keys)
    return lambda: ZoneKey(number, algorithm, new_secret(algorithm), int(now), since=int(now))


def new_secret(algorithm: DnssecAlgorithm) -> bytes:
    """The secret of a new key."""
    return _MAKE[algorithm]()


def next_number(keys: Sequence[ZoneKey]) -> int:
    """That of the next key of a zone."""
    return max((key.number for key in keys), default=0) + 1


def zone_key_row(zone: str, key: ZoneKey, kek: KeyEncryptionKey) -> dict[str, Any]:
    """The row of a key, its secret wrapped."""
    secret = kek.wrap(key.secret, zone_key_context(zone, key.number))
    row = {"zone": zone, "number": key.number, "algorithm": key.algorithm.value, "created_at": key.created_at}
    return {**row, "secret": secret, "sep": key.sep, "state": key.state.value, "since": key.since}


def zone_key_from(row: Any, kek: KeyEncryptionKey) -> ZoneKey:
    """The key in a row (anything with the columns as attributes)."""
    secret = kek.unwrap(row.secret, zone_key_context(readable(row.zone), whole(row.number)))
    algorithm, created = DnssecAlgorithm(row.algorithm), whole(row.created_at, LATEST)
    sep, state = getattr(row, "sep", True), KeyState(getattr(row, "state", KeyState.ACTIVE))  # earlier files lack them
    return ZoneKey(row.number, algorithm, secret, created, bool(sep), state, whole(getattr(row, "since", 0), LATEST))


def _p256() -> bytes:
    return generate_private_key(SECP256R1()).private_numbers().private_value.to_bytes(SECRET_BYTES, "big")


_MAKE: Mapping[DnssecAlgorithm, Callable[[], bytes]] = {
    DnssecAlgorithm.ECDSAP256SHA256: _p256,
    DnssecAlgorithm.ED25519: lambda: Ed25519PrivateKey.generate().private_bytes_raw(),
}
