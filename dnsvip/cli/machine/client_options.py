"""The options of `dnsvip client` that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Any

import click

from dnsvip.client.claims import parse_claim
from dnsvip.client.enrol import Encryption
from dnsvip.client.enrolment import ServerTrust
from dnsvip.client.io import files
from dnsvip.client.io.agent import Agent
from dnsvip.site import parse_endpoint
from dnsvip.site.server_forms import parse_server


def warn(text: str) -> None:
    """Say what is not as it should be."""
    from dnsvip.cli.shared.show import say  # noqa: PLC0415 - rarely needed, and slow to load

    say(f"caution: {text}", fg="yellow", err=True)


def _checked(parse: Callable[[str], object]) -> Callable[..., tuple[str, ...]]:
    """A callback that checks each value of an option."""

    def check(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            try:
                parse(value)
            except ValueError as error:
                raise click.BadParameter(f"{value!r}: {error}") from None
        return values

    return check


endpoints, servers = _checked(parse_endpoint), _checked(parse_server)
"""Callbacks that check plain addresses, and servers of any form."""
SERVER = "ADDRESS:PORT|URL"
"""A DNS server: in plain text, or as tls://, https://, h3:// or quic://ADDRESS:PORT#NAME."""


FILE = click.Path(path_type=Path, dir_okay=False)
enrolment_option = click.option(
    "--enrolment", type=FILE, help=f"Another enrolment than the imported one (or ${files.ENVIRONMENT})."
)
server_option = click.option(
    "--server",
    "servers",
    multiple=True,
    metavar=SERVER,
    callback=servers,
    help="Ask this DNS server instead; may be repeated.",
)


def _claims(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> dict[str, str | int]:
    try:
        return dict(parse_claim(value) for value in values)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


claim_option = click.option(
    "--claim",
    "claims",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_claims,
    help="Say this of the connections, proven with the client's key; may be repeated.",
)


def _resolver(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    return servers(_ctx, _param, (value,))[0] if value else None


resolver_option = click.option(
    "--resolver",
    metavar=SERVER,
    callback=_resolver,
    help="Let any resolver tell the addresses; tickets stand in for the plain address.",
)
own_option = click.option(
    "--own-address",
    is_flag=True,
    help="Connect to the plain address, from an address of this client's own that says who it is.",
)


def agent_options(*, own_address: bool) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The options of all commands that resolve names; the command gets them as `load`, which makes the agent."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def command(enrolment: Path | None, **values: Any) -> None:
            settings = {name: values.pop(name) for name in AGENT_SETTINGS if name in values}
            function(load=partial(Agent.load, enrolment, warn=warn, **settings), **values)

        options = [enrolment_option, server_option, claim_option, resolver_option]
        for option in reversed([*options, own_option] if own_address else options):
            command = option(command)
        return command

    return decorate


AGENT_SETTINGS = ("servers", "claims", "resolver", "own_address")


def encryption_options(function: Callable[..., None]) -> Callable[..., None]:
    """The options of what an enrolment says of encrypted servers; the command gets them as `encryption`."""

    @wraps(function)
    def command(
        ca: Path | None, pins: tuple[str, ...], token_file: Path | None, *, plaintext_fallback: bool, **values: Any
    ) -> None:
        trust = ServerTrust(files.read(ca) if ca else None, pins)
        token = files.read(token_file).strip() if token_file else None
        function(encryption=Encryption(trust, token, plaintext_fallback), **values)

    options = [
        click.option("--ca", type=FILE, help="Authorities (PEM) of encrypted servers; else the machine's."),
        click.option(
            "--pin",
            "pins",
            multiple=True,
            metavar="BASE64",
            help="The SHA-256 of an encrypted server's public key, which it must have; may be repeated.",
        ),
        click.option("--token-file", type=FILE, help="A file with the client's DNS token, for encrypted servers."),
        click.option(
            "--plaintext-fallback",
            is_flag=True,
            help="Let servers in plain text stand in for encrypted ones that do not answer.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command
