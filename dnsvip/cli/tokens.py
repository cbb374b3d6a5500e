"""`dnsvip tokens`: bearer tokens of the API; with --config straight in the database, for when there is no API yet."""

from __future__ import annotations

import asyncio
import getpass
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from dnsvip.cli import show
from dnsvip.cli.api import EPILOG, ApiError, find_api
from dnsvip.cli.nouns import json_option
from dnsvip.config import load_node
from dnsvip.store import KeyEncryptionKey, Store

T = TypeVar("T")

COLUMNS: show.Columns = {
    "NAME": lambda token: token["name"],
    "CREATED": lambda token: show.moment(token["created_at"]),
    "BY": lambda token: token["created_by"],
}

FILE = click.Path(path_type=Path, dir_okay=False)


def _ways(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--config", type=FILE, help="A node file: use its database instead of the API."),
        click.option("--api", "address", metavar="HOST:PORT", help="Where the API is (or $DNSVIP_API)."),
        click.option("--token-file", type=FILE, help="The file that holds a token (or it is in $DNSVIP_TOKEN)."),
    ):
        function = option(function)
    return function


@click.group(epilog=EPILOG)
def tokens() -> None:
    """Bearer tokens of the HTTP API, through the API or (--config) the database."""


@tokens.command("list", epilog=EPILOG)
@json_option
@_ways
def list_(config: Path | None, address: str | None, token_file: Path | None, *, as_json: bool) -> None:
    """List tokens; what they are is not known to anybody but their owners."""
    if config:
        found = _in_database(config, lambda store: store.tokens())
        items = [{"name": t.name, "created_at": t.created_at, "created_by": t.created_by} for t in found]
    else:
        items = find_api(address, token_file).get("tokens")["items"]
    show.rows(COLUMNS, items, as_json=as_json)


@tokens.command(epilog=EPILOG)
@click.argument("name")
@_ways
def create(name: str, config: Path | None, address: str | None, token_file: Path | None) -> None:
    """Make a token and print it, this once."""
    if config:
        click.echo(_in_database(config, lambda store: store.create_token(name, _actor())))
    else:
        click.echo(find_api(address, token_file).call("POST", "tokens", body={"name": name})["token"])


@tokens.command(epilog=EPILOG)
@click.argument("name")
@_ways
def delete(name: str, config: Path | None, address: str | None, token_file: Path | None) -> None:
    """Revoke a token, from its next request on."""
    if not config:
        find_api(address, token_file).call("DELETE", "tokens", name)
    elif not _in_database(config, lambda store: store.delete_token(name, _actor())):
        raise ApiError(f"there is no token {name!r}", 404)
    click.echo(f"token {name} deleted")


def _in_database(config: Path, work: Callable[[Store], Awaitable[T]]) -> T:
    node = load_node(config)

    async def run() -> T:
        store = await Store.open(node.database, KeyEncryptionKey.of(node, os.environ))
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


def _actor() -> str:
    """Whom the audit names."""
    try:
        return f"cli {getpass.getuser()}"
    except (KeyError, OSError):  # a user without an entry in passwd
        return f"cli uid {os.getuid()}"
