"""The database of a node file, for commands that only read it and never create one."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from dnsvip.errors import StoreError
from dnsvip.site import Snapshot
from dnsvip.site.io.files import load_node
from dnsvip.site.node_file import NodeConfig


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
    from dnsvip.store import KeyEncryptionKey, Store  # noqa: PLC0415 - half a second that most commands do not need

    store = await Store.open(node.database, KeyEncryptionKey.of(node, os.environ), listen=node.database_listen)
    try:
        return await store.snapshots.load()
    finally:
        await store.close()
