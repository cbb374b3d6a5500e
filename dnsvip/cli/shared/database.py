"""The database of a node file, for commands that never create one."""

from __future__ import annotations

import asyncio
import getpass
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dnsvip.errors import StoreError
from dnsvip.site import Snapshot
from dnsvip.site.io.files import load_node
from dnsvip.site.node_file import NodeConfig

if TYPE_CHECKING:
    from dnsvip.store import Store


def load_snapshot(node_file: Path) -> Snapshot:
    """The site and keys as they are now; raises ConfigError, StoreError or SecretError."""
    node = load_node(node_file)
    scheme, _, path = node.database.partition(":///")
    if scheme == "sqlite" and not Path(path).exists():
        raise StoreError(
            f"{path}: there is no database yet; create it with `dnsvip apply SITE.toml --config {node_file}`"
        )
    return asyncio.run(_load(node))


async def _load(node: NodeConfig) -> Snapshot:
    async with _opened(node) as store:
        return await store.snapshots.load()


def tell_enrolment(node_file: Path, client: str, key_generation: int, **what: object) -> None:
    """Leave the audit row of an enrolment that this command has made; raises ConfigError, StoreError or SecretError."""
    from dnsvip.store.access.audit import enrolled  # noqa: PLC0415 - as below

    async def tell() -> None:
        async with _opened(load_node(node_file)) as store:
            await store.audit.note(actor(), enrolled(client, key_generation, **what))

    asyncio.run(tell())


def actor() -> str:
    """The actor that the audit names."""
    return f"cli {user()}"


def user() -> str:
    """Who runs the command."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without an entry in passwd
        return f"uid {os.getuid()}"


@asynccontextmanager
async def _opened(node: NodeConfig) -> AsyncIterator[Store]:
    from dnsvip.store import KeyEncryptionKey, Store  # noqa: PLC0415 - half a second that most commands do not need

    store = await Store.open(node.database, KeyEncryptionKey.of(node, os.environ), listen=node.database_listen)
    try:
        yield store
    finally:
        await store.close()
