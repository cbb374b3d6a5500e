"""`dnsvip completion SHELL`: the script that completes commands, keys of objects and, given a token, names of the site.

Names come from the API, within half a second or not at all: no completion is better than a shell that hangs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

from dnsvip.cli.shared.api import Api, find_api
from dnsvip.cli.shared.parameters import NARROW, Choice
from dnsvip.errors import DnsvipError
from dnsvip.site import Server
from dnsvip.site.declare import Declared, declared
from dnsvip.site.registry import KINDS, NAMED

VARIABLE = "_DNSVIP_COMPLETE"
"""Set by the script when it asks what may come next."""

MOST = 100
"""Names offered at a time."""

SECONDS = 0.5

NEW = ("add", "create")
"""Verbs whose name is not there yet."""

NOUNS = (*(kind.plural for kind in NAMED.values()), "tokens")
"""Commands whose argument NAME is one of their own objects."""

FIELDS: Mapping[str, Mapping[str, Declared]] = {
    **{kind.plural: dict(kind.walk()) for kind in KINDS.values()},
    "servers": declared(Server),
}
"""Command -> the keys that its verbs `set` and `add` take."""


@click.command()
@click.argument("shell", type=Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes `dnsvip` in SHELL.

    \b
    bash:  dnsvip completion bash > ~/.local/share/bash-completion/completions/dnsvip
    zsh:   dnsvip completion zsh > ~/.zfunc/_dnsvip       (a folder in $fpath)
    fish:  dnsvip completion fish > ~/.config/fish/completions/dnsvip.fish

    Names of clients, tiers and so on are completed where DNSVIP_TOKEN or --token-file gives a token.
    """
    from dnsvip.cli import root  # noqa: PLC0415 - it is what loads this module

    script = get_completion_class(shell)
    assert script is not None  # noqa: S101 - the choices are click's own
    click.echo(script(root, {}, "dnsvip", VARIABLE).source())


def with_names(noun: str, command: click.Command) -> click.Command:
    """The command with names completed in all its verbs; only worth while in a shell that asks."""
    if isinstance(command, click.Group):
        for verb in command.commands.values():
            with_names(noun, verb)
        return command
    for parameter in command.params:
        where = _collection(noun, command.name or "", parameter.name or "")
        if parameter.name == "pairs" and noun in FIELDS:
            parameter.type = Pair(FIELDS[noun])
        elif where and parameter.type is click.STRING:
            parameter.type = Named(where)
    return command


def _collection(noun: str, verb: str, parameter: str) -> str | None:
    """The list of the objects that an argument or option names; None where it names none."""
    if parameter == "name" and noun in NOUNS and verb not in NEW:
        return noun
    if parameter.startswith(NARROW):
        return next((plural for plural in NOUNS if plural == parameter.removeprefix(NARROW)), None)
    field = FIELDS.get(noun, {}).get(parameter)
    kind = NAMED.get(field.about.refers if field else parameter)
    return "servers" if parameter in ("server", "servers") else kind.plural if kind else None


class Named(click.types.StringParamType):
    """A string that names an object of the site."""

    def __init__(self, collection: str) -> None:
        self._collection = collection

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Names that start with `incomplete`; none where the API cannot be asked."""
        del param
        return [CompletionItem(name) for name in _names(ctx, self._collection, incomplete)]


class Pair(click.types.StringParamType):
    """A word KEY=VALUE: the keys of an object, then the values that the key takes."""

    def __init__(self, fields: Mapping[str, Declared]) -> None:
        self._fields = fields

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Keys, or values of a key. Bash takes `=` for a word of its own, and click drops a final one."""
        given: tuple[str, ...] = ctx.params.get(param.name or "") or ()
        before, last = ("", "", *given)[-2:]
        split = before if last == "=" else last if "=" not in last + before else ""
        if split:
            return [CompletionItem(value) for value in self._values(ctx, split, incomplete)]
        key, equals, value = incomplete.partition("=")
        if equals:
            return [CompletionItem(f"{key}={word}") for word in self._values(ctx, key, value)]
        keys = {
            path: field.about
            for path, field in self._fields.items()
            if path != "name" and (field.model is None or field.many)
        }
        return [CompletionItem(f"{path}=", help=about.label) for path, about in keys.items() if path.startswith(key)]

    def _values(self, ctx: click.Context, key: str, start: str) -> list[str]:
        field = self._fields.get(key)
        if field is None:
            return []
        if field.about.refers:
            return _names(ctx, NAMED[field.about.refers].plural, start)
        words = ["true", "false"] if isinstance(field.default, bool) else [choice.value for choice in field.choices]
        return [word for word in words if word.startswith(start)]


def _names(ctx: click.Context, collection: str, start: str) -> list[str]:
    """Names of objects that start with `start`; none where the API cannot be asked."""
    try:
        names = _listed(_api(ctx), collection, start)
        return list(islice((name for name in names if name.startswith(start)), MOST))
    except (DnsvipError, click.ClickException, KeyError, TypeError):
        return []  # nothing answers, or what answers is not our API


def _api(ctx: click.Context) -> Api:
    file = ctx.params.get("token_file")
    return find_api(ctx.params.get("address"), Path(file) if file else None, SECONDS)


def _listed(api: Api, collection: str, incomplete: str) -> Iterator[str]:
    """Names in order, from `incomplete` on: a list may be very long."""
    if collection == "servers":
        for pool in api.items("pools", limit=MOST):
            yield from (f"{pool['name']}/{server['name']}" for server in pool.get("servers", ()))
    else:
        yield from (item["name"] for item in api.items(collection, limit=MOST, after=_before(incomplete)))


def _before(text: str) -> str:
    """What sorts right before `text`, so that `text` itself comes after it: no name has a character beyond "z"."""
    return f"{text[:-1]}{chr(ord(text[-1]) - 1)}~" if text else ""
