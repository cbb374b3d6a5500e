"""The last good snapshot on this node's disk, so that the node can start and serve while the database is down.

The file has a header, one JSON line per row with secrets wrapped, and a trailer with a checksum. It is replaced
atomically: a draft is written, flushed to disk and renamed.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

from dnsvip.address.keyring import Epoch, Keyring
from dnsvip.errors import Problem, StoreError
from dnsvip.site import Cluster, Site, Snapshot, ZoneKey
from dnsvip.site.cow_map import CowMap
from dnsvip.site.io.safe_file import draft_of, make_folder
from dnsvip.site.plain import SiteObject, collection
from dnsvip.site.registry import COLLECTIONS, SINGLE
from dnsvip.store.keys.client_authority import AUTHORITY
from dnsvip.store.keys.epochs import epoch_from, epoch_row
from dnsvip.store.keys.zone_keys import ZONE_KEY, zone_key_from, zone_key_row
from dnsvip.store.objects.reading import SERVED_INSTEAD
from dnsvip.store.objects.rows import from_row, to_row
from dnsvip.store.secrets.kek import KeyEncryptionKey, cookie_context, master_context
from dnsvip.store.snapshots.loading import MANY

FORMAT, VERSION = "dnsvip snapshot", 1
FILE = "snapshot.jsonl"

STRIDE = 100
"""Rows between two calls of `rest`, about 2 ms of work."""

EPOCH, MASTER, COOKIE, DELETED, DRAINED = "epoch", "client_master", "cookie_secret", "deleted_client", "drained_node"


def save(
    folder: Path,
    snapshot: Snapshot,
    identity: str,
    kek: KeyEncryptionKey,
    *,
    overwrite: bool = False,
    rest: Callable[[], object] = lambda: None,
) -> None:
    """Write the snapshot durably; raises StoreError, and then the previous file stays. Calls `rest` every STRIDE rows.

    A file of a newer generation, by another process of this node, is kept, unless `overwrite` is set because the
    database went back.
    """
    make_folder(folder)
    path = folder / FILE
    if not overwrite and _newer(path, identity) > snapshot.generation:
        return
    with draft_of(path) as draft:
        _write(draft.file, snapshot, identity, kek, rest)
        if overwrite or _newer(path, identity) <= snapshot.generation:  # another process may have written meanwhile
            draft.commit()


def load(folder: Path, kek: KeyEncryptionKey) -> Snapshot:
    """The snapshot on disk; raises StoreError if it is missing or damaged, SecretError if its secrets do not unwrap."""
    path = folder / FILE
    try:
        with path.open("rb") as file:
            return _read(file, path, kek)
    except OSError as error:
        raise StoreError(f"snapshot {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"snapshot {path}: is damaged: {error}") from error


def _write(
    file: IO[bytes], snapshot: Snapshot, identity: str, kek: KeyEncryptionKey, rest: Callable[[], object]
) -> None:
    digest = hashlib.sha256()

    def put(value: Any) -> None:
        line = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        digest.update(line)
        file.write(line)

    put({"format": FORMAT, "version": VERSION, "generation": snapshot.generation, "identity": identity})
    for number, (kind, row) in enumerate(_rows(snapshot, kek), 1):
        put([kind, {key: _json_value(value) for key, value in row.items()}])
        if number % STRIDE == 0:
            rest()
    put({"end": digest.hexdigest()})


def _rows(snapshot: Snapshot, kek: KeyEncryptionKey) -> Iterator[tuple[str, dict[str, Any]]]:
    site = snapshot.site
    for kind in COLLECTIONS:
        for name, site_object in collection(site, kind).items():
            yield kind, to_row(kind, name, site_object, kek)
    yield SINGLE, to_row(SINGLE, "", site.classify, kek)
    for name, keyring in snapshot.keyrings.items():
        yield from ((EPOCH, epoch_row(name, epoch, kek)) for epoch in keyring.epochs)
    for name, master in snapshot.masters.items():
        yield MASTER, {"cluster": name, "secret": kek.wrap(master, master_context(name))}
    for position, secret in enumerate(snapshot.cookie_secrets):
        yield COOKIE, {"position": position, "secret": kek.wrap(secret, cookie_context(position))}
    for name, keys in snapshot.zone_keys.items():
        yield from ((ZONE_KEY, zone_key_row(name, key, kek)) for key in keys)
    for place, certificate in enumerate(snapshot.client_ca):
        yield AUTHORITY, {"place": place, "certificate": certificate}
    for name, since in snapshot.drained.items():
        yield DRAINED, {"name": name, "since": since}
    for number, generation in snapshot.deleted.items():
        yield DELETED, {"id": number, "generation": generation, "end_flows": number in snapshot.ended}


def _json_value(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _read(file: IO[bytes], path: Path, kek: KeyEncryptionKey) -> Snapshot:
    digest = hashlib.sha256()
    header = _header(file.readline(), path, digest.update)
    content = _Content(kek)
    for line in file:
        entry = json.loads(line)
        if isinstance(entry, dict):
            if entry["end"] != digest.hexdigest():
                raise ValueError("its checksum is wrong")
            return content.snapshot(header["generation"])
        digest.update(line)
        content.take(entry[0], SimpleNamespace(**entry[1]))
    raise ValueError("its end is missing")


class _Content:
    """What the rows of a file become."""

    def __init__(self, kek: KeyEncryptionKey) -> None:
        self._kek = kek
        self._parts: dict[str, Any] = {attribute: {} for attribute in COLLECTIONS.values()}
        self._many: dict[str, CowMap[str, SiteObject]] = {kind: CowMap() for kind in MANY}
        self._parts |= {COLLECTIONS[kind]: objects for kind, objects in self._many.items()}
        self._epochs: dict[str, list[Epoch]] = {}
        self._masters: dict[str, bytes] = {}
        self._cookie_secrets: tuple[bytes, ...] = ()
        self._zone_keys: dict[str, tuple[ZoneKey, ...]] = {}
        self._client_ca: tuple[str, ...] = ()
        self._unreadable: list[Problem] = []
        self._deleted: CowMap[int, int] = CowMap()
        self._ended: set[int] = set()
        self._drained: dict[str, float] = {}

    def take(self, kind: str, row: Any) -> None:
        """Take one row."""
        if hasattr(row, "secret"):
            row.secret = base64.b64decode(row.secret)
        match kind:
            case "epoch":
                self._epochs.setdefault(row.cluster, []).append(epoch_from(row, self._kek))
            case "client_master":
                self._masters[row.cluster] = self._kek.unwrap(row.secret, master_context(row.cluster))
            case "cookie_secret":
                self._cookie_secrets += (self._kek.unwrap(row.secret, cookie_context(row.position)),)
            case "zone_key":
                self._zone_keys[row.zone] = (*self._zone_keys.get(row.zone, ()), zone_key_from(row, self._kek))
            case "client_ca":
                self._client_ca += (row.certificate,)
            case "drained_node":
                self._drained[row.name] = row.since
            case "deleted_client":
                self._deleted.fill([(row.id, row.generation)])
                if getattr(row, "end_flows", False):  # one of an earlier version lacks it
                    self._ended.add(row.id)
            case _:
                self._take_object(kind, row)

    def snapshot(self, generation: int) -> Snapshot:
        """The snapshot of all rows."""
        site = Site(**self._parts)
        keyrings, problems = _keyrings(site, self._epochs), tuple(self._unreadable)
        gone, ended = self._deleted, frozenset(self._ended)
        keys = self._masters, self._cookie_secrets
        first = generation, site, keyrings, *keys, problems, gone, ended, self._zone_keys
        return Snapshot(*first, client_ca=self._client_ca, drained=self._drained)

    def _take_object(self, kind: str, row: Any) -> None:
        try:
            site_object = from_row(kind, row, self._kek)
        except StoreError as error:  # an object of another version costs itself, not the start
            self._unreadable.append(Problem(f"{kind}.{row.name}".rstrip("."), str(error)[:500]))
            if kind not in SERVED_INSTEAD:
                return
            site_object = SERVED_INSTEAD[kind](row.name)
        if kind == SINGLE:
            self._parts[SINGLE] = site_object
        elif kind in self._many:
            self._many[kind].fill([(row.name, site_object)])
        else:
            self._parts[COLLECTIONS[kind]][row.name] = site_object


def _header(line: bytes, path: Path, update: Callable[[bytes], None]) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(line)
    if header["format"] != FORMAT:
        raise ValueError("it is not a dnsvip snapshot")
    if header["version"] != VERSION:
        raise StoreError(f"snapshot {path}: its format is version {header['version']}, this program reads {VERSION}")
    update(line)
    return header


def _keyrings(site: Site, epochs: dict[str, list[Epoch]]) -> dict[str, Keyring]:
    return {
        name: Keyring(cluster.address_layout, epochs.get(name, ()))
        for name, cluster in site.clusters.items()
        if isinstance(cluster, Cluster)
    }


def _newer(path: Path, identity: str) -> int:
    """The generation on disk; -1 if there is none or it is of another database."""
    try:
        with path.open("rb") as file:
            header = _header(file.readline(), path, lambda _: None)
        return int(header["generation"]) if header["identity"] == identity else -1
    except (OSError, ValueError, KeyError, TypeError, StoreError):
        return -1
