"""The verbs that every noun of the API has: list, show, add, set, delete."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import click

from dnsvip.cli.shared import show
from dnsvip.cli.shared.api import EPILOG, Api, with_api
from dnsvip.site.plain import JsonObject

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
PAIRS = "KEY=VALUE..."


def noun(
    name: str,
    what: str,
    columns: show.Columns,
    *,
    verbs: str = "list show add set delete",
    filters: Sequence[click.Option] = (),
) -> click.Group:
    """The group of commands for the collection `name`; one object of it is called `what`."""

    @click.group(name, help=f"{name.capitalize()} of the site, through the HTTP API.", epilog=EPILOG)
    def group() -> None:
        pass

    for verb in verbs.split():
        group.add_command(_VERBS[verb](name, what, columns))
    if "list" in group.commands:
        group.commands["list"].params += filters
    return group


def choice(words: type[StrEnum]) -> click.Choice[str]:
    """The type of an option that takes one of an enum's words."""
    return click.Choice([word.value for word in words])


def assigned(pairs: tuple[str, ...]) -> JsonObject:
    """The object that words `key=value` describe; dots in keys go deeper, `key=` is null. Raises UsageError.

    A value is JSON where it can be read as such, else a string.
    """
    body: JsonObject = {}
    for pair in pairs:
        path, separator, text = pair.partition("=")
        if not separator or not all(path.split(".")):
            raise click.UsageError(f"{pair!r}: must be KEY=VALUE, such as tier=gold or proof.single_use=true")
        *heads, key = path.split(".")
        place = body
        for head in heads:
            place = place.setdefault(head, {})
            if not isinstance(place, dict):
                raise click.UsageError(f"{pair!r}: {head} has been given a value already")
        place[key] = _value(text)
    return body


def _value(text: str) -> Any:
    if not text:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


def create(api: Api, collection: str, name: str, body: JsonObject) -> JsonObject:
    """Make an object that is not there yet."""
    made: JsonObject = api.call("PUT", collection, name, body=body, headers={"If-None-Match": "*"})
    return made


def _list(name: str, what: str, columns: show.Columns) -> click.Command:
    @click.command("list", help=f"List {name}.", epilog=EPILOG)
    @click.option("--limit", type=click.IntRange(1), help="At most so many.")
    @click.option("--prefix", "q", metavar="TEXT", help="Only those whose names start so.")
    @click.option("--sort", metavar="[-]FIELD", help="By name or changed, clients also by id, tier, state.")
    @json_option
    @with_api
    def command(api: Api, limit: int | None, *, as_json: bool, **query: str | None) -> None:
        show.rows(columns, api.items(name, limit=limit, query=query), as_json=as_json)

    return command


def _show(name: str, what: str, columns: show.Columns) -> click.Command:
    @click.command("show", help=f"Show all of one {what}.", epilog=EPILOG)
    @click.argument("name")
    @json_option
    @with_api
    def command(api: Api, name: str, *, as_json: bool, collection: str = name) -> None:
        show.item(api.get(collection, name), as_json=as_json)

    return command


def _add(name: str, what: str, columns: show.Columns) -> click.Command:
    @click.command("add", help=f"Make a {what}; it must not exist yet.", epilog=EPILOG)
    @click.argument("name")
    @click.argument("pairs", nargs=-1, metavar=PAIRS)
    @json_option
    @with_api
    def command(api: Api, name: str, pairs: tuple[str, ...], *, as_json: bool, collection: str = name) -> None:
        show.item(create(api, collection, name, assigned(pairs)), as_json=as_json)

    return command


def _set(name: str, what: str, columns: show.Columns) -> click.Command:
    text = f"""Change a {what}.

    VALUE is JSON, or else a string; a key's dots go deeper; KEY= goes back to the default.
    """

    @click.command("set", help=text, epilog=EPILOG)
    @click.argument("name")
    @click.argument("pairs", nargs=-1, required=True, metavar=PAIRS)
    @json_option
    @with_api
    def command(api: Api, name: str, pairs: tuple[str, ...], *, as_json: bool, collection: str = name) -> None:
        show.item(api.call("PATCH", collection, name, body=assigned(pairs)), as_json=as_json)

    return command


def _delete(name: str, what: str, columns: show.Columns) -> click.Command:
    @click.command("delete", help=f"Delete a {what} that nothing refers to.", epilog=EPILOG)
    @click.argument("name")
    @with_api
    def command(api: Api, name: str, collection: str = name) -> None:
        api.call("DELETE", collection, name)
        click.echo(f"{what} {name} deleted")

    return command


_VERBS = {"list": _list, "show": _show, "add": _add, "set": _set, "delete": _delete}
