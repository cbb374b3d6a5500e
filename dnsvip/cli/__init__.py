"""The command line: modules of commands (README.md), each imported only when its command runs."""

from __future__ import annotations

import errno
import gc
import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any, NoReturn

import click
from click.shell_completion import CompletionItem

from dnsvip import __version__
from dnsvip.cli.examples import with_examples
from dnsvip.errors import DnsvipError
from dnsvip.suggestion import did_you_mean, near

PARTS = {
    "processes": "Long-running processes",
    "database": "On the database of a node file",
    "objects": "The objects of the site, by the HTTP API",
    "operating": "The running site, by the HTTP API",
    "machine": "This machine, and clients",
    "completion": "The shell",
}
"""Headings of the list of commands, by the part of the package that they are in."""
COMMANDS = {
    "serve": ("processes", "Answer DNS, and serve the HTTP API and the console"),
    "dispatch": ("processes", "Forward packets for the cluster prefixes to their servers"),
    "decoder": ("processes", "On a server: what addresses say, for its programs"),
    "announce": ("processes", "For ExaBGP: the prefixes that this host should get"),
    "apply": ("database.site", "Make the database match a site file"),
    "backup": ("database.backup", "Write the whole site to a file"),
    "restore": ("database.backup", "Put a site written by backup in place"),
    "decode": ("database.address", "What an address carries, step by step, and whether it is accepted"),
    "encode": ("database.address", "The address that a client would receive"),
    "clients": ("objects.clients", "Clients and their tiers; import and export"),
    "tiers": ("objects.registered", "Tiers: pool, rate limit, DSCP"),
    "clusters": ("objects.registered", "Clusters: prefix, address layout, proof"),
    "pools": ("objects.registered", "Pools of servers: how they are forwarded to, and checked"),
    "servers": ("objects.servers", "Servers of the pools: weight, drain, down, health"),
    "zones": ("objects.zones", "Zones and their keys"),
    "records": ("objects.records", "The records of zones"),
    "services": ("objects.registered", "Service names, which answer each client its own address"),
    "dns-groups": ("objects.registered", "DNS servers for the clients of some tiers"),
    "tsig": ("objects.tsig", "TSIG keys"),
    "dns-tokens": ("objects.dns_tokens", "Tokens that identify clients over encrypted DNS"),
    "classify": ("objects.registered", "In which order clients are identified"),
    "status": ("operating.status", "Generation, nodes and counters"),
    "nodes": ("operating.nodes", "The processes that share the site"),
    "keys": ("operating.keys", "Key epochs of the clusters: rotate, rewrap"),
    "client-ca": ("operating.client_ca", "The authority that issues client certificates: create, rotate, remove"),
    "sessions": ("operating.sessions", "Names that name a session of a service"),
    "tokens": ("operating.tokens", "Bearer tokens of the HTTP API"),
    "audit": ("operating.audit", "What was changed, by whom"),
    "search": ("operating.search", "Everything that a text is in, or that an address leads to"),
    "explain": ("operating.explain", "What is answered to a requester, and why"),
    "doctor": ("machine.doctor", "What is wrong with this node, and how to fix it"),
    "demo": ("machine.demo", "The main job on real packets, in network namespaces"),
    "xdp": ("machine.xdp", "The dispatcher in the kernel: attach, detach, status"),
    "flows": ("machine.flows", "Flows that the dispatcher knows: top, search, purge"),
    "watch": ("machine.watch", "What happens to the packets of an address or a client, live"),
    "client": ("machine.client", "A client of encoded addresses: enrol, resolve, exec"),
    "completion": ("completion", "The script that completes dnsvip in a shell"),
}
"""Command -> the module under dnsvip.cli with a click command of that name, and its summary."""


COLLECT = 200_000
"""New objects before the garbage collector looks at them. Modules make that many and leave next to no garbage: looking
at them every 700, as Python does by itself, is a quarter of the start of a command. A node that has started turns back
to that (`dnsvip.node.runtime_tuning`)."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What writing fails with where there is no room for it."""


class LazyGroup(click.Group):
    """A click group that imports a command's module only when that command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order of their table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command called `cmd_name`, None where there is none."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"dnsvip.cli.{COMMANDS[cmd_name][0]}")
        command = with_examples(cmd_name, getattr(module, cmd_name.replace("-", "_")))
        return _completed(cmd_name, command) if "_DNSVIP_COMPLETE" in os.environ else command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments begin with; an unknown one ends in the name that was probably meant."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            raise click.UsageError(f"there is no command {name!r}{did_you_mean(name, COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; where it lacks a verb, such as `list` in `client list`, the one that has it is named."""
        try:
            return super().invoke(ctx)
        except click.exceptions.NoSuchCommand as error:
            noun = error.ctx.info_name if error.ctx else None
            if other := self._with_verb(ctx, noun or "", error.command_name):
                text = (
                    f"there is no command '{noun} {error.command_name}'; did you mean '{other} {error.command_name}'?"
                )
                raise click.UsageError(text, error.ctx) from None
            raise

    def _with_verb(self, ctx: click.Context, noun: str, verb: str) -> str | None:
        """The command that is called like `noun` and has this verb; None where there is none."""
        for other in near(noun, COMMANDS.keys() - {noun}, 3):
            command = self.get_command(ctx, other)
            if isinstance(command, click.Group) and verb in command.commands:
                return other
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands in `--help`, from the table alone: nothing is imported for it."""
        for part, title in PARTS.items():
            rows = [(name, says) for name, (module, says) in COMMANDS.items() if module.split(".")[0] == part]
            with formatter.section(title):
                formatter.write_dl(rows)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Completions of the commands, from the table too."""
        named = [CompletionItem(name, help=says) for name, (_, says) in COMMANDS.items() if name.startswith(incomplete)]
        return named + click.Command.shell_complete(self, ctx, incomplete)


def _completed(noun: str, command: click.Command) -> click.Command:
    """The command as shell completion sees it, which completes names and keys too."""
    from dnsvip.cli.completion import with_names  # noqa: PLC0415 - loaded only where it is asked for

    return with_names(noun, command)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dnsvip")
def root() -> None:
    """DNS that gives every client its own encoded address, and the dispatcher that reads it."""


def main(argv: list[str] | None = None) -> Any:
    """Run the command line; a DnsvipError ends in one clear message and its exit code."""
    gc.set_threshold(COLLECT)
    try:
        return root.main(args=argv, prog_name="dnsvip", standalone_mode=True)
    except DnsvipError as error:
        _end(str(error), error.exit_code)
    except OSError as error:
        if error.errno not in FULL or error.filename is not None:
            raise
        with suppress(OSError):  # what is buffered would be written once more at the end, and fail once more
            sys.stdout.close()
        _end(f"the output cannot be written: {error.strerror}; what is there is not all of it", DnsvipError.exit_code)


def _end(text: str, code: int) -> NoReturn:
    from dnsvip.printable import printable  # noqa: PLC0415 - rarely needed

    click.echo(click.style("error: ", fg="red", bold=True, reset=True) + printable(text), err=True)
    sys.exit(code)
