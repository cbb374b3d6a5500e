"""`dnsvip tokens`: bearer tokens of the API; with --config directly in the database, before there is an API."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from dnsvip.cli.shared import show
from dnsvip.cli.shared.api import EPILOG, Api, ApiError, api_options, find_api, with_api
from dnsvip.cli.shared.database import actor
from dnsvip.cli.shared.nouns import json_option
from dnsvip.cli.shared.parameters import NARROW, Choice, seconds
from dnsvip.site.io.files import load_node
from dnsvip.site.plain import JsonObject
from dnsvip.site.rights import NARROWINGS, ROLES
from dnsvip.store import KeyEncryptionKey, Store
from dnsvip.store.access.tokens import token_form

T = TypeVar("T")

COLUMNS: show.Columns = {
    "NAME": lambda token: token["name"],
    "MAY": lambda token: token.get("unreadable") or token["role"] or [str(scope) for scope in token["rights"]],
    "FROM": lambda token: token["networks"],
    "EXPIRES": lambda token: show.moment(token["expires_at"]),
    "USED": lambda token: show.moment(token["last_used_at"]),
    "CREATED": lambda token: show.moment(token["created_at"]),
    "BY": lambda token: token["created_by"],
}

EXAMPLES = """
\b
Examples:
  dnsvip tokens create robot --role operator --expires-in 90d --network 192.0.2.0/24
  dnsvip tokens create certbot --role acme
  dnsvip tokens create partner --scope read,write:client --clients 'partner-*'
  dnsvip tokens create reseller --scope write:client --tiers silver --match-network 192.0.2.0/24
  dnsvip tokens create desk --scope read,write:client --attributes 'lang=*' --attributes plan=free
"""

MATCHED = "--match-network"

FILE = click.Path(path_type=Path, dir_okay=False)


def _ways(function: Callable[..., Any]) -> Callable[..., Any]:
    config = click.option("--config", type=FILE, help="A node file: use its database instead of the API.")
    return config(api_options(function))


def _narrowing(name: str) -> Callable[[Any], Any]:
    what, metavar = (MATCHED, "NETWORK") if name == "networks" else (f"--{name}", "PATTERN")
    text = f"Narrow the scopes to these {NARROWINGS[name]}; may be repeated."
    return click.option(what, NARROW + name, multiple=True, metavar=metavar, help=text)


def _allowance(function: Callable[..., Any]) -> Callable[..., Any]:
    options: tuple[Callable[[Any], Any], ...] = (
        click.option("--per-minute", type=click.IntRange(1), help="At most this many requests per minute."),
        click.option("--expires-in", callback=seconds, metavar="TIME", help="How long it is valid, such as 90d."),
        click.option("--network", "networks", multiple=True, help="Where it may be used from; may be repeated."),
        *(_narrowing(name) for name in reversed(tuple(NARROWINGS))),
        click.option("--scope", "scopes", multiple=True, metavar="ACTIONS:KINDS", help="Such as read,write:client."),
        click.option("--role", type=Choice(list(ROLES)), help="A named set of scopes."),
    )
    for option in options:
        function = option(function)
    return function


def _body(scopes: tuple[str, ...], given: Mapping[str, Any]) -> dict[str, Any]:
    """The body for the API: only the given options."""
    options = {key: list(value) if isinstance(value, tuple) else value for key, value in given.items() if value}
    body = {key: value for key, value in options.items() if not key.startswith(NARROW)}
    patterns = {key.removeprefix(NARROW): value for key, value in options.items() if key not in body}
    if scopes:
        body["scopes"] = [_scope(text) | patterns for text in scopes]
    elif patterns:
        names = ", ".join(MATCHED if name == "networks" else f"--{name}" for name in patterns)
        raise click.UsageError(f"{names}: narrows a --scope, and there is none")
    return body


def _scope(text: str) -> dict[str, Any]:
    actions, colon, kinds = text.partition(":")
    if not colon or not actions or not kinds:
        raise click.UsageError(f"--scope {text!r}: must be ACTIONS:KINDS, such as read,write:client or read:*")
    return {"actions": actions.split(","), "kinds": kinds.split(",")}


@click.group(epilog=EXAMPLES + "\n" + EPILOG)
def tokens() -> None:
    """Bearer tokens of the HTTP API, through the API or (--config) the database."""


@tokens.command("list", epilog=EPILOG)
@click.option("--role", type=Choice(list(ROLES)), help="Only those of this role.")
@click.option("--expired/--unexpired", default=None, help="Only those that have expired, or that have not.")
@json_option
@_ways
def list_(config: Path | None, role: str | None, *, expired: bool | None, as_json: bool, **where: Any) -> None:
    """List tokens, without their secrets: only their owners have these."""
    if config:
        now, known = time.time(), _in_database(config, lambda store: store.tokens.all())
        some = (token for token in known if role in (None, token.role) and expired in (None, token.has_expired(now)))
        listed: Iterator[JsonObject] = (
            {**token_form(token), "rights": [str(scope) for scope in token.rights.scopes]} for token in some
        )
    else:
        listed = _api(where).items("tokens", query={"role": role, "expired": expired})
    show.rows(COLUMNS, listed, as_json=as_json)


@tokens.command(epilog=EXAMPLES + "\n" + EPILOG)
@click.argument("name")
@_allowance
@_ways
def create(
    name: str,
    config: Path | None,
    address: str | None,
    ca: Path | None,
    token_file: Path | None,
    scopes: tuple[str, ...],
    **given: Any,
) -> None:
    """Create a token and print it, only this once. Without --role and --scope it may do what its creator may."""
    body = _body(scopes, given)
    if config:
        if body:
            raise click.UsageError("--config makes a token that may all; give rights through the API")
        click.echo(_in_database(config, lambda store: store.tokens.create(name, actor())))
    else:
        api = find_api(address, token_file, ca=ca)
        click.echo(api.call("POST", "tokens", body={"name": name, **body})["token"])


@tokens.command("set", epilog=EPILOG)
@click.argument("name")
@_allowance
@json_option
@with_api
def set_(api: Api, name: str, scopes: tuple[str, ...], *, as_json: bool, **given: Any) -> None:
    """Change what token NAME may do, from its next request on."""
    show.item(api.call("PATCH", "tokens", name, body=_body(scopes, given)), as_json=as_json)


@tokens.command(epilog=EPILOG)
@click.argument("name")
@with_api
def rotate(api: Api, name: str) -> None:
    """Replace the secret of token NAME and print the new one, only this once; the old one is void."""
    click.echo(api.call("POST", "tokens", name, "rotate")["token"])


@tokens.command("show", epilog=EPILOG)
@click.argument("name")
@json_option
@with_api
def show_(api: Api, name: str, *, as_json: bool) -> None:
    """Show all of one token except its secret."""
    show.item(api.get("tokens", name), as_json=as_json)


@tokens.command(epilog=EPILOG)
@json_option
@with_api
def whoami(api: Api, *, as_json: bool) -> None:
    """Show the token in use here, and what it may do."""
    show.item(api.get("whoami"), as_json=as_json)


@tokens.command(epilog=EPILOG)
@click.argument("name")
@_ways
def delete(name: str, config: Path | None, **where: Any) -> None:
    """Revoke a token, from its next request on."""
    if not config:
        _api(where).call("DELETE", "tokens", name)
    elif not _in_database(config, lambda store: store.tokens.delete(name, actor())):
        raise ApiError(f"there is no token {name!r}", 404)
    click.echo(f"token {name} deleted")


def _api(where: Mapping[str, Any]) -> Api:
    return find_api(where["address"], where["token_file"], ca=where["ca"])


def _in_database(config: Path, work: Callable[[Store], Awaitable[T]]) -> T:
    node = load_node(config)

    async def run() -> T:
        store = await Store.open(node.database, KeyEncryptionKey.of(node, os.environ), listen=node.database_listen)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())
