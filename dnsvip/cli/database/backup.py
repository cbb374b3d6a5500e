"""`dnsvip backup` and `dnsvip restore`: a whole site in one file, and back into a database of either kind."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import click

from dnsvip.address.keyring import Epoch, EpochState
from dnsvip.cli.shared import show
from dnsvip.cli.shared.database import user
from dnsvip.errors import Conflict, Problem, SecretError, StoreError
from dnsvip.site.io.files import load_node
from dnsvip.site.node_file import NodeConfig

OUTPUT = "-"

FILE = click.Path(dir_okay=False, path_type=Path)
CONFIG = click.option(
    "--config", "node_file", metavar="NODE.toml", required=True, type=FILE, help="The node file, for database and key."
)


@click.command()
@click.argument("file", type=FILE)
@CONFIG
@click.option("--force", is_flag=True, help="Replace FILE where it exists, once all is written.")
@click.option("--without-audit", is_flag=True, help="Leave out who changed what.")
def backup(file: Path, node_file: Path, *, force: bool, without_audit: bool) -> None:
    """Write the whole site to FILE (- is standard output): objects, keys, tokens and audit, as of one moment; nodes
    keep running.

    It contains secrets as the database does, wrapped with the key-encryption key. Keep a copy of that key elsewhere:
    without it the file is worth nothing.
    """
    node, to_output = load_node(node_file), str(file) == OUTPUT
    scheme, _, path = node.database.partition(":///")
    if scheme == "sqlite" and not Path(path).exists():
        raise StoreError(f"{path}: there is no database; {node_file} names it")
    if to_output and sys.stdout.isatty():
        raise click.UsageError("a backup is nothing to look at: send it to a file or a program, or name a FILE")
    if file.exists() and not force and not to_output:
        raise StoreError(f"{file}: exists already; --force replaces it")
    target = _Output() if to_output else file
    generation, count = asyncio.run(_backup(node, target, replacing=force, with_audit=not without_audit))
    size = "" if to_output else f", {file.stat().st_size / 1e6:.1f} MB"
    name = "standard output" if to_output else file
    click.echo(f"{name}: {count} rows as of generation {generation}{size}", err=to_output)


@click.command()
@click.argument("file", type=FILE)
@CONFIG
@click.option("--replace", is_flag=True, help="Destroy the site that the database holds.")
@click.option("--key-file", type=FILE, help="The key that FILE is under, where that is not this node's.")
def restore(file: Path, node_file: Path, key_file: Path | None, *, replace: bool) -> None:
    """Restore the site in FILE into the database of NODE.toml, all or nothing.

    The database is made where it is missing. Nodes that use it notice and reload everything. Key epochs are
    those of the backup: addresses issued with later ones are rejected until clients query again.
    """
    node = load_node(node_file)
    try:
        said = asyncio.run(_restore(node, file, key_file, replacing=replace))
    except SecretError as error:
        if key_file is not None:
            raise
        raise SecretError(f"{error}; --key-file FILE names the key that the backup is under") from None
    except Conflict as error:
        if replace:
            raise
        raise Conflict(
            [Problem(one.where, f"{one.message}; --replace allows that") for one in error.problems]
        ) from None
    click.echo("\n".join(said))


class _Output:
    """Standard output, whose own failures are told from those of the database."""

    def write(self, line: bytes) -> int:
        """Write a line; raises StoreError."""
        try:
            sys.stdout.buffer.write(line)
            if line.startswith(b"{"):  # the first and the last one
                sys.stdout.buffer.flush()
        except OSError as error:
            with suppress(OSError):
                sys.stdout.close()
            text = f"standard output cannot be written: {error.strerror}; what is there is not the whole backup"
            raise StoreError(text) from None
        return len(line)


async def _backup(node: NodeConfig, target: Path | _Output, *, replacing: bool, with_audit: bool) -> tuple[int, int]:
    from dnsvip.store import KeyEncryptionKey, Store  # noqa: PLC0415 - half a second that most commands do not need

    store = await Store.open(
        node.database, KeyEncryptionKey.of(node, os.environ, make=False), migrate=False, listen=node.database_listen
    )
    try:
        header, count = await store.backups.write(
            target, time.time(), with_audit=with_audit, replacing=replacing, progress=_progress
        )
    finally:
        await store.close()
    return header.generation, count


async def _restore(node: NodeConfig, file: Path, key_file: Path | None, *, replacing: bool) -> list[str]:
    from dnsvip.store import KeyEncryptionKey, Store  # noqa: PLC0415 - half a second that most commands do not need
    from dnsvip.store.backup_file import read_header  # noqa: PLC0415

    read_header(file)  # before anything is made for what is no backup
    old = KeyEncryptionKey.load(key_file, {}, make=False) if key_file else None
    store = await Store.open(
        node.database, KeyEncryptionKey.of(node, os.environ, make=old is not None), listen=node.database_listen
    )
    try:
        actor = f"{user()} (restore)"
        header, count = await store.backups.restore(file, actor, key=old, replacing=replacing, progress=_progress)
        generation = await store.generation()
        held = await store.keys.epochs()
    finally:
        await store.close()
    when = show.moment(header.at)
    said = f"{count} rows of {when} (generation {header.generation}) restored, now generation {generation}"
    return [said, *_keys(held)]


def _keys(held: Mapping[str, Sequence[Epoch]]) -> list[str]:
    lines = []
    for name, epochs in held.items():
        active = next(epoch for epoch in epochs if epoch.state is EpochState.ACTIVE)
        since = show.moment(active.activated_at)
        lines.append(f"cluster {name}: encodes with epoch {active.slot} (key {active.key_id}, active since {since})")
    if lines:
        lines.append("addresses issued with keys made after the backup are rejected until clients query again")
        lines.append("if a key was destroyed in an emergency since then: dnsvip keys rotate CLUSTER --emergency")
    return lines


def _progress(rows: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{rows} rows", nl=False, err=True)
