"""Rotating the key-encryption key under running nodes: no secret lost, no downtime, a useless old key."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dnsvip.errors import SecretError
from dnsvip.site import Client
from dnsvip.site.node_file import NodeConfig
from dnsvip.site.plan import Change
from dnsvip.store import KeyEncryptionKey, SnapshotFollower, Store
from dnsvip.store.keys.rewrap import without_key
from dnsvip.store.secrets.sources import add_to_file
from dnsvip.store.snapshots import lastgood
from tests.store.conftest import until

Node = Callable[[str], NodeConfig]
Start = Callable[[SnapshotFollower], Awaitable[SnapshotFollower]]
DNSVIP = Path(sys.executable).with_name("dnsvip")


def change(number: int) -> list[Change]:
    return [Change("client", f"c{number}", "+", None, Client(f"c{number}", number, "gold"))]


async def test_secrets_survive_and_the_old_key_opens_nothing(
    filled: Store, url: str, kek: KeyEncryptionKey, tmp_path: Path
) -> None:
    """After a rewrap every secret is unchanged and wrapped under the new key only."""
    await filled.keys.rotate("web", "me", 1000.0)
    before = await filled.snapshots.load()
    new = KeyEncryptionKey.load(tmp_path / "new.key", {})
    assert await filled.keys.rewrap(new, "me") == 2 + 1 + 1 + 3
    with pytest.raises(SecretError, match="is not the one that the secrets"):
        await Store.open(url, kek)
    with pytest.raises(SecretError, match="is not the one that the secrets"):
        await filled.tokens.create("t", "me")
    store = await Store.open(url, new)
    after = await store.snapshots.load()
    assert (after.site, after.masters, after.cookie_secrets) == (before.site, before.masters, before.cookie_secrets)
    assert after.keyrings["web"].epochs == before.keyrings["web"].epochs
    row = (await store.audit.rows(1))[0]
    assert (row.kind, row.action, row.name) == ("kek", "~", new.active_id)
    await store.close()


@pytest.mark.usefixtures("filled")
async def test_nodes_take_the_new_key_without_a_pause(
    node: Node, started: Start, tmp_path: Path, kek: KeyEncryptionKey, store: Store
) -> None:
    """Running nodes load an announced key themselves, follow without a pause, and write under the new key.

    Their last good snapshot is saved under it too.
    """
    feeds = [await started(SnapshotFollower(node(name), ["dns"], {})) for name in ("a", "b")]
    new = KeyEncryptionKey.load(tmp_path / "new.key", {})
    await store.keys.announce(new.active_id, "me")
    async with asyncio.timeout(20):
        while without_key(await store.nodes.all(), new.active_id, time.time()) != ["a", "b"]:
            await asyncio.sleep(0.05)
    add_to_file(tmp_path / "dnsvip.key", tmp_path / "new.key")
    async with asyncio.timeout(20):
        while without_key(await store.nodes.all(), new.active_id, time.time()):
            await asyncio.sleep(0.05)
    await store.keys.rewrap(new, "me")
    assert feeds[0].store
    await feeds[0].store.objects.apply(change(1), "me", "api")
    await until(lambda: all("c1" in feed.snapshot.site.clients for feed in feeds))
    (tmp_path / "new.key").rename(tmp_path / "dnsvip.key")
    only_new = KeyEncryptionKey.load(tmp_path / "dnsvip.key", {})
    generation = feeds[0].snapshot.generation
    await until(lambda: _saved(tmp_path / "a", only_new) == generation)
    await feeds[0].store.objects.apply(change(2), "me", "api")
    await until(lambda: all("c2" in feed.snapshot.site.clients for feed in feeds))


def _saved(folder: Path, kek: KeyEncryptionKey) -> int:
    try:
        return lastgood.load(folder, kek).generation
    except SecretError:
        return -1


@pytest.mark.usefixtures("filled")
async def test_node_that_missed_the_change_catches_up(node: Node, started: Start, tmp_path: Path, store: Store) -> None:
    """A node without the new key keeps its last snapshot and follows again once it gets the key."""
    feed = await started(SnapshotFollower(node("a"), ["dns"], {}))
    await until(lambda: feed.connected)
    new = KeyEncryptionKey.load(tmp_path / "new.key", {})
    await store.keys.rewrap(new, "me")
    await until(lambda: not feed.connected)
    assert "acme" in feed.snapshot.site.clients
    add_to_file(tmp_path / "dnsvip.key", tmp_path / "new.key")
    await until(lambda: feed.connected and feed.snapshot.generation == 2)


async def test_command(url: str, tmp_path: Path, filled: Store) -> None:
    """`dnsvip keys rewrap` adds a new key to this node's file and names live nodes that do not load it in time.

    With --anyway it rewraps every secret regardless; afterwards the new key alone is enough.
    """
    node = tmp_path / "node.toml"
    node.write_text(f'database = "{url}"\n')
    feed = SnapshotFollower(NodeConfig(url, tmp_path / "dnsvip.key", tmp_path / "other", "other"), ["dns"], {})
    await feed.start()
    await feed.close()
    # A live node that never reloads its key; its lease outlasts the start of the command on a busy machine.
    await filled.nodes.report(replace(feed._own_report(), lease_seconds=60.0))
    argv = [DNSVIP, "keys", "rewrap", "--config", node, "--new-key-file", tmp_path / "new.key"]
    refused = await _run(*argv, "--timeout", "0.1")
    assert refused[0] == 1
    assert "do not hold the key" in refused[1]
    assert "other; nothing is changed yet" in refused[1]
    status, said = await _run(*argv, "--anyway")
    assert (status, "secrets are wrapped with the key" in said) == (0, True), said
    (tmp_path / "new.key").rename(tmp_path / "dnsvip.key")
    status, said = await _run(DNSVIP, "encode", "--config", node, "--cluster", "web", "--client", "acme")
    assert status == 0, said


async def _run(*argv: object) -> tuple[int | None, str]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*map(str, argv), stdout=pipe, stderr=asyncio.subprocess.STDOUT)
    said, _ = await process.communicate()
    return process.returncode, said.decode()
