"""Writers killed with SIGKILL: acknowledged transactions survive, others are whole or absent."""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

import pytest

from dnsvip.store import KeyEncryptionKey, Store

WRITER = """
import asyncio, sys
from pathlib import Path
from dnsvip.site import Client
from dnsvip.site.plan import Change
from dnsvip.store import KeyEncryptionKey, Store
size = int(sys.argv[3])
def numbered_client(number):
    return Change("client", f"k{number}", "+", None, Client(f"k{number}", number, "gold"))
async def main():
    store = await Store.open(sys.argv[1], KeyEncryptionKey.load(Path(sys.argv[2]), {}))
    for turn in range(100000):
        print("begin", flush=True)
        await store.objects.apply([numbered_client(100000 + turn * size + n) for n in range(size)], "me", "api")
        print("done", turn, flush=True)
asyncio.run(main())
"""


async def killed_writer(url: str, key: Path, size: int, seconds: float) -> int:
    """The number of transactions of `size` clients that a writer acknowledged before it was killed."""
    writer = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, url, str(key), str(size), stdout=asyncio.subprocess.PIPE
    )
    assert writer.stdout
    assert await writer.stdout.readline() == b"begin\n"
    await asyncio.sleep(seconds)
    writer.kill()
    output, _ = await writer.communicate()
    return output.count(b"done")


@pytest.mark.parametrize("size", [1, 2000])
async def test_killed_writer_loses_nothing_acknowledged(
    filled: Store, url: str, tmp_path: Path, kek: KeyEncryptionKey, size: int
) -> None:
    """A killed writer loses no acknowledged transaction and leaves none in part."""
    acknowledged = await killed_writer(url, tmp_path / "dnsvip.key", size, random.uniform(0.15, 0.6))
    await asyncio.sleep(0.3)  # a server may still be finishing the dead writer's request
    await filled.close()
    store = await Store.open(url, kek)
    count, generation = await store.objects.count("client") - 2, await store.generation()
    assert count % size == 0
    assert acknowledged <= count // size <= acknowledged + 1
    assert generation == 1 + count // size
    snapshot = await store.snapshots.load()
    assert len(snapshot.site.clients) == count + 2
    await store.close()
