"""The snapshot on disk: loads equal, whole or not at all, and holds no secret in clear."""

from __future__ import annotations

import json
import os
from base64 import b64decode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dnsvip.errors import DnsvipError, SecretError, StoreError
from dnsvip.site import Client, Site, Snapshot
from dnsvip.store import KeyEncryptionKey, Store
from dnsvip.store.snapshots import lastgood


@pytest.fixture
async def snapshot(filled: Store) -> Snapshot:
    """A snapshot with two epochs."""
    await filled.keys.rotate("web", "me", 1000.0)
    return await filled.snapshots.load()


def clear_secrets(snapshot: Snapshot, site: Site) -> list[bytes]:
    """Every encoding in which a file could contain a secret of the snapshot."""
    secrets = [epoch.secret for ring in snapshot.keyrings.values() for epoch in ring.epochs]
    secrets += [*snapshot.masters.values(), *snapshot.cookie_secrets]
    secrets += [b64decode(key.secret) for key in site.tsig_keys.values()]
    text = [key.secret.encode() for key in site.tsig_keys.values()]
    return [*secrets, *text, *(secret.hex().encode() for secret in secrets)]


def test_saved_comes_back(snapshot: Snapshot, tmp_path: Path, kek: KeyEncryptionKey) -> None:
    """A saved snapshot loads equal from a private file, and no draft is left."""
    folder = tmp_path / "made" / "when missing"
    lastgood.save(folder, snapshot, "db", kek)
    loaded = lastgood.load(folder, kek)
    assert loaded.site == snapshot.site
    assert loaded.masters == snapshot.masters
    assert loaded.generation == snapshot.generation
    assert loaded.keyrings["web"].epochs == snapshot.keyrings["web"].epochs
    assert os.listdir(folder) == ["snapshot.jsonl"]
    assert (folder / "snapshot.jsonl").stat().st_mode & 0o777 == 0o600


def test_no_secret_in_clear(snapshot: Snapshot, site: Site, tmp_path: Path, kek: KeyEncryptionKey) -> None:
    """The file contains no epoch secret, client master or TSIG secret in clear."""
    lastgood.save(tmp_path, snapshot, "db", kek)
    content = (tmp_path / lastgood.FILE).read_bytes()
    assert b"acme-key" in content
    for secret in clear_secrets(snapshot, site):
        assert secret not in content


def test_another_key_is_refused(snapshot: Snapshot, tmp_path: Path, kek: KeyEncryptionKey) -> None:
    """A file wrapped with another key raises SecretError."""
    lastgood.save(tmp_path, snapshot, "db", kek)
    with pytest.raises(SecretError, match="does not unwrap with the key from other"):
        lastgood.load(tmp_path, KeyEncryptionKey(bytes(32), "other"))


def test_older_generation_does_not_replace_a_newer(snapshot: Snapshot, tmp_path: Path, kek: KeyEncryptionKey) -> None:
    """The newer of two processes' snapshots is kept; a snapshot of another database replaces it."""
    lastgood.save(tmp_path, snapshot, "db", kek)
    older = replace(snapshot, generation=1)
    lastgood.save(tmp_path, older, "db", kek)
    assert lastgood.load(tmp_path, kek).generation == snapshot.generation
    lastgood.save(tmp_path, older, "another", kek)
    assert lastgood.load(tmp_path, kek).generation == 1


def _cut(lines: list[str]) -> list[str]:
    return lines[:-1]


def _alter(lines: list[str]) -> list[str]:
    return [line.replace('\\"dscp\\":34', '\\"dscp\\":35') for line in lines]


def _newer(lines: list[str]) -> list[str]:
    return [json.dumps({**json.loads(lines[0]), "version": 2}), *lines[1:]]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_cut, "is damaged: its end is missing"),
        (_alter, "is damaged: its checksum is wrong"),
        (_newer, "its format is version 2, this program reads 1"),
        (lambda _: ['{"format": "x"}'], "is damaged: it is not a dnsvip snapshot"),
        (lambda _: ["[]"], "is damaged"),
        (lambda _: [], "is damaged"),
        (lambda lines: [lines[0], '["cluster", {"name": "web"}]'], "is damaged"),
    ],
)
def test_damage_is_refused(
    snapshot: Snapshot, tmp_path: Path, kek: KeyEncryptionKey, damage: Callable[[list[str]], list[str]], message: str
) -> None:
    """A truncated, altered or unknown file is refused by name."""
    lastgood.save(tmp_path, snapshot, "db", kek)
    path = tmp_path / lastgood.FILE
    lines = path.read_text().splitlines()
    damaged = damage(lines)
    assert damaged != lines
    path.write_text("\n".join(damaged))
    with pytest.raises(DnsvipError) as caught:
        lastgood.load(tmp_path, kek)
    assert message in str(caught.value)
    lastgood.save(tmp_path, snapshot, "db", kek)
    assert lastgood.load(tmp_path, kek).generation == snapshot.generation


def test_a_missing_file_is_named(tmp_path: Path, kek: KeyEncryptionKey) -> None:
    """Without a saved snapshot the error names the file."""
    with pytest.raises(StoreError, match=r"snapshot\.jsonl: No such file"):
        lastgood.load(tmp_path, kek)


def test_saving_rests(snapshot: Snapshot, tmp_path: Path, kek: KeyEncryptionKey) -> None:
    """Saving a large site rests after every hundred rows, so that queries are answered meanwhile."""
    clients = {f"c{number}": Client(f"c{number}", number + 1, "gold", ()) for number in range(1000)}
    rests: list[None] = []
    large = replace(snapshot, site=replace(snapshot.site, clients=clients))
    lastgood.save(tmp_path, large, "db", kek, rest=lambda: rests.append(None))
    assert 10 <= len(rests) <= 11
    assert len(lastgood.load(tmp_path, kek).site.clients) == 1000


def test_a_slow_save_gives_way_to_a_newer_one(snapshot: Snapshot, tmp_path: Path, kek: KeyEncryptionKey) -> None:
    """A slow save does not replace a newer snapshot that another process saved meanwhile."""
    clients = {f"c{number}": Client(f"c{number}", number + 1, "gold", ()) for number in range(100)}
    slow = replace(snapshot, site=replace(snapshot.site, clients=clients))
    newer = replace(snapshot, generation=snapshot.generation + 1)
    lastgood.save(tmp_path, slow, "db", kek, rest=lambda: lastgood.save(tmp_path, newer, "db", kek))
    assert lastgood.load(tmp_path, kek).generation == newer.generation
    assert not list(tmp_path.glob(f".{lastgood.FILE}.*"))


def test_failed_save_keeps_the_file_before(snapshot: Snapshot, tmp_path: Path, kek: KeyEncryptionKey) -> None:
    """A full disk leaves the previous snapshot intact and no draft."""
    lastgood.save(tmp_path, snapshot, "db", kek)
    before = (tmp_path / lastgood.FILE).read_bytes()

    class FullDisk(KeyEncryptionKey):
        def wrap(self, secret: bytes, context: bytes) -> bytes:
            raise OSError(28, "No space left on device")

    with pytest.raises(StoreError, match="No space left on device; free some disk space"):
        lastgood.save(tmp_path, replace(snapshot, generation=99), "db", FullDisk(bytes(32), "x"))
    assert (tmp_path / lastgood.FILE).read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir() if "snapshot" in p.name) == [lastgood.FILE]
