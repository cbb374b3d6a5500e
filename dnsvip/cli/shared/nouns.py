"""The commands of a kind of object, made from the registry: list, show, add, set, delete."""

from __future__ import annotations

import http
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import click

from dnsvip.cli.shared import show
from dnsvip.cli.shared.api import EPILOG, Api, ApiError, with_api
from dnsvip.cli.shared.columns import columns, filters
from dnsvip.site.plain import JsonObject
from dnsvip.site.registry import NAMED, Kind

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
PAIRS = "KEY=VALUE..."


def noun(kind: Kind, verbs: str = "") -> click.Group:
    """The group of commands for a kind, by default with every verb that it can have."""

    @click.group(kind.plural, help=kind.help, epilog=EPILOG)
    def group() -> None:
        pass

    for verb in (verbs or ("list show add set delete" if kind.named else "show set")).split():
        group.add_command(_VERBS[verb](kind))
    return group


def assigned(pairs: tuple[str, ...]) -> JsonObject:
    """The object that words `key=value` describe; dots in keys descend, `key=` is null. Raises UsageError.

    A value is JSON where it parses as JSON, else a string.
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
    """Create an object that does not exist yet."""
    created: JsonObject = api.call("PUT", collection, name, body=body, headers={"If-None-Match": "*"})
    return created


def _print(kind: Kind, plain: JsonObject, *, as_json: bool) -> None:
    """Print an object; documents are left to JSON, and to commands of their own."""
    documents = {name for name, field in kind.fields.items() if field.about.media and not as_json}
    show.item({key: value for key, value in plain.items() if key not in documents}, as_json=as_json)


def _list(kind: Kind) -> click.Command:
    *orders, last = kind.sorts

    @click.command("list", help=f"List {kind.nouns}.", epilog=EPILOG)
    @click.option("--limit", type=click.IntRange(1), help="At most this many.")
    @click.option("--prefix", "q", metavar="TEXT", help="Only those whose names start with this.")
    @click.option("--sort", metavar="[-]FIELD", help=f"By {', '.join(orders)} or {last}; a leading - reverses it.")
    @json_option
    @with_api
    def command(api: Api, limit: int | None, *, as_json: bool, **query: str | None) -> None:
        items = api.items(kind.plural, limit=limit, query=query)
        found = _or_misspelt(api, kind, query, items)
        show.rows(columns(kind.fields, kind.extras, kind.name), found, as_json=as_json)

    command.params += filters(kind)
    return command


def _or_misspelt(
    api: Api, kind: Kind, query: Mapping[str, str | None], items: Iterable[JsonObject]
) -> Iterator[JsonObject]:
    """The items of a list; raises ApiError where there are none, as a filter names an object that is not there."""
    item = None
    for item in items:
        yield item
    if item is None:
        named = {
            NAMED[about.refers].plural: query.get(name) for name, about in kind.list_filters.items() if about.refers
        }
        for plural, name in named.items():
            if name:
                _must_exist(api, plural, name)


def _must_exist(api: Api, plural: str, name: str) -> None:
    try:
        api.get(plural, name)
    except ApiError as error:
        if error.status == http.HTTPStatus.NOT_FOUND:
            raise


def _show(kind: Kind) -> click.Command:
    text = f"Show all of one {kind.noun}." if kind.named else "Show the settings."

    @click.command("show", help=text, epilog=EPILOG)
    @json_option
    @with_api
    def command(api: Api, *, as_json: bool, **name: str) -> None:
        show.item(api.get(kind.plural, *name.values()), as_json=as_json)

    return _with_name(kind, command)


def _add(kind: Kind) -> click.Command:
    @click.command("add", help=f"Create a {kind.noun}; it must not exist yet.", epilog=EPILOG)
    @click.argument("name")
    @click.argument("pairs", nargs=-1, metavar=PAIRS)
    @json_option
    @with_api
    def command(api: Api, name: str, pairs: tuple[str, ...], *, as_json: bool) -> None:
        _print(kind, create(api, kind.plural, name, assigned(pairs)), as_json=as_json)

    return command


def _set(kind: Kind) -> click.Command:
    text = f"""Change {f"a {kind.noun}" if kind.named else "settings"}.

    VALUE is JSON, or else a string; dots in KEY descend into tables; KEY= restores the default.
    """

    @click.command("set", help=text, epilog=EPILOG)
    @click.argument("pairs", nargs=-1, required=True, metavar=PAIRS)
    @json_option
    @with_api
    def command(api: Api, pairs: tuple[str, ...], *, as_json: bool, **name: str) -> None:
        changed = api.call("PATCH", kind.plural, *name.values(), body=assigned(pairs))
        _print(kind, changed, as_json=as_json)

    return _with_name(kind, command)


def _delete(kind: Kind) -> click.Command:
    what = kind.noun

    @click.command("delete", help=f"Delete a {what} that nothing refers to.", epilog=EPILOG)
    @click.argument("name")
    @with_api
    def command(api: Api, name: str) -> None:
        api.call("DELETE", kind.plural, name)
        click.echo(f"{what} {name} deleted")

    return command


def _with_name(kind: Kind, command: click.Command) -> click.Command:
    """The command with its first argument NAME, where objects of the kind have names."""
    if kind.named:
        command.params.insert(0, click.Argument(["name"]))
    return command


_VERBS = {"list": _list, "show": _show, "add": _add, "set": _set, "delete": _delete}
