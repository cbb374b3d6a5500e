"""`dnsvip completion SHELL`: the script that completes our commands, and names of the site where a token is at hand.

Names come from the API, within half a second or not at all: a shell that waits is worse than one that guesses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

from dnsvip.cli.shared.api import Api, find_api
from dnsvip.errors import DnsvipError

VARIABLE = "_DNSVIP_COMPLETE"
"""Set by the script when it asks what may come next."""

MOST = 100
"""Names offered at a time."""

SECONDS = 0.5

COLLECTIONS: Mapping[str, str] = {"tier": "tiers", "cluster": "clusters", "client": "clients", "pool": "pools"}
"""Arguments and options that name an object -> where those are listed; `name` is one of its own noun."""

NEW = ("add", "create")
"""Verbs whose name is not there yet."""

NOUNS = ("clients", "tiers", "clusters", "pools", "zones", "services", "tokens")


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes `dnsvip` in SHELL.

    \b
    bash:  dnsvip completion bash > ~/.local/share/bash-completion/completions/dnsvip
    zsh:   dnsvip completion zsh > ~/.zfunc/_dnsvip       (a folder in $fpath)
    fish:  dnsvip completion fish > ~/.config/fish/completions/dnsvip.fish

    Names of clients, tiers and so on are completed where DNSVIP_TOKEN or --token-file gives a token.
    """
    from dnsvip.cli import root  # noqa: PLC0415 - it is what loads this module

    made = get_completion_class(shell)
    assert made is not None  # noqa: S101 - the choices are click's own
    click.echo(made(root, {}, "dnsvip", VARIABLE).source())


def with_names(noun: str, command: click.Command) -> click.Command:
    """The command with names completed in all its verbs; only worth while in a shell that asks."""
    if isinstance(command, click.Group):
        for verb in command.commands.values():
            with_names(noun, verb)
        return command
    for parameter in command.params:
        where = _collection(noun, command.name or "", parameter.name or "")
        if where and parameter.type is click.STRING:
            parameter.type = Named(where)
    return command


def _collection(noun: str, verb: str, parameter: str) -> str | None:
    if parameter == "name" and noun in NOUNS and verb not in NEW:
        return noun
    return "servers" if parameter == "server" else COLLECTIONS.get(parameter)


class Named(click.types.StringParamType):
    """A string that names an object of the site."""

    def __init__(self, collection: str) -> None:
        self._collection = collection

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Names that begin so; none where the API cannot be asked."""
        del param
        try:
            names = _names(_api(ctx), self._collection, incomplete)
            return [CompletionItem(name) for name in names if name.startswith(incomplete)][:MOST]
        except (DnsvipError, click.ClickException, KeyError, TypeError):
            return []  # nothing answers, or what answers is not our API


def _api(ctx: click.Context) -> Api:
    file = ctx.params.get("token_file")
    return find_api(ctx.params.get("address"), Path(file) if file else None, SECONDS)


def _names(api: Api, collection: str, incomplete: str) -> Iterator[str]:
    """Names that may fit, in their order; of very many only those from `incomplete` on are read."""
    if collection == "servers":
        for pool in api.items("pools", limit=MOST):
            yield from (f"{pool['name']}/{server['name']}" for server in pool["servers"])
    else:
        yield from (each["name"] for each in api.items(collection, limit=MOST, after=_before(incomplete)))


def _before(text: str) -> str:
    """What sorts right before `text`, so that `text` itself comes after it: no name has a character beyond "z"."""
    return f"{text[:-1]}{chr(ord(text[-1]) - 1)}~" if text else ""
