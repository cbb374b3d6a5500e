"""`dnsvip client`: make and import an enrolment, resolve, and run programs with proven addresses."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from contextlib import AsyncExitStack, suppress
from ipaddress import IPv6Address
from pathlib import Path

import click

from dnsvip.cli.shared.database import load_snapshot
from dnsvip.client.enrol import cautions, make_enrolment
from dnsvip.client.enrolment import Enrolment, dump, parse
from dnsvip.client.io import files
from dnsvip.client.io.agent import Agent, Resolved
from dnsvip.client.io.command import run_with_hosts, run_with_proxy
from dnsvip.client.io.stub import Stub
from dnsvip.client.io.upstream import system_servers
from dnsvip.site import parse_endpoint


def _endpoints(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        try:
            parse_endpoint(value)
        except ValueError as error:
            raise click.BadParameter(f"{value!r}: {error}") from None
    return values


FILE = click.Path(path_type=Path, dir_okay=False)
enrolment_option = click.option(
    "--enrolment", type=FILE, help=f"Another enrolment than the imported one (or ${files.ENVIRONMENT})."
)
server_option = click.option(
    "--server",
    "servers",
    multiple=True,
    metavar="ADDRESS:PORT",
    callback=_endpoints,
    help="Ask this DNS server instead; may be repeated.",
)


@click.group()
def client() -> None:
    """A client of encoded addresses: enrol, resolve, run programs."""


@client.command()
@click.argument("name")
@click.option("--config", required=True, type=FILE, help="The node file, to find the database.")
@click.option(
    "--server",
    "servers",
    required=True,
    multiple=True,
    metavar="ADDRESS:PORT",
    callback=_endpoints,
    help="A DNS server that the client asks; may be repeated.",
)
@click.option("--output", type=FILE, help="The file to write, readable by its owner only; else standard output.")
def enrol(name: str, config: Path, servers: tuple[str, ...], output: Path | None) -> None:
    """Create the enrolment of client NAME (for operators). It contains the client's keys: transfer it securely."""
    snapshot = load_snapshot(config)
    enrolment = make_enrolment(snapshot, name, servers)
    for caution in cautions(snapshot, name):
        click.secho(f"caution: {caution}", fg="yellow", err=True)
    if output is None:
        click.echo(dump(enrolment), nl=False)
        return
    files.save(enrolment, output)
    click.echo(f"{output}: enrolment of {name} for {_services(enrolment)}")


@client.command("import")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@enrolment_option
def import_(file: Path, enrolment: Path | None) -> None:
    """Check the enrolment in FILE (- is standard input) and keep it for the commands below."""
    text = sys.stdin.read() if str(file) == "-" else files.read(file)
    parsed = parse(text, "standard input" if str(file) == "-" else str(file))
    target = enrolment or files.default_path()
    files.save(parsed, target)
    click.echo(f"{target}: enrolled as {parsed.client} for {_services(parsed)}")


def _services(enrolment: Enrolment) -> str:
    return ", ".join(name for cluster in enrolment.clusters for name in cluster.services)


@client.command()
@click.argument("name")
@enrolment_option
@server_option
@click.option(
    "--port", type=click.IntRange(1, 65535), default=None, help="The source port, where the proof is bound to it."
)
@click.option("--source", type=IPv6Address, metavar="ADDRESS", help="The source address; default: this machine's.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def resolve(
    name: str,
    enrolment: Path | None,
    servers: tuple[str, ...],
    port: int | None,
    source: IPv6Address | None,
    *,
    as_json: bool,
) -> None:
    """The address to connect to for NAME, proven with this client's key."""
    resolved = Agent.load(enrolment, servers=servers).resolve_sync(name, source=source, port=port or 0)
    click.echo(json.dumps(_plain(resolved)) if as_json else _shown(resolved))


def _plain(resolved: Resolved) -> dict[str, object]:
    return {
        "name": resolved.name,
        "address": str(resolved.address),
        "issued": str(resolved.issued),
        "ttl": resolved.ttl,
        "proven": resolved.proven,
        "valid_until": resolved.valid_until,
        "why": resolved.why.name.lower().replace("_", "-"),
    }


def _shown(resolved: Resolved) -> str:
    if not resolved.proven:
        return f"{resolved.address}\n  not proven: {resolved.why}"
    left = max(0, round(resolved.valid_until - time.time()))
    return f"{resolved.address}\n  proven for new connections in the next {left} s\n  issued as {resolved.issued}"


@client.command("exec", context_settings={"allow_interspersed_args": False})
@enrolment_option
@server_option
@click.option("--hosts", is_flag=True, help="For programs that know no proxies: give it an /etc/hosts of its own.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(command: tuple[str, ...], enrolment: Path | None, servers: tuple[str, ...], *, hosts: bool) -> None:
    """Run COMMAND so that it connects to proven addresses; its exit status is passed on.

    Certificate names and Host stay those of the URL. By default through a proxy on a loopback port that
    COMMAND finds in its environment.
    """
    agent = Agent.load(enrolment, servers=servers)
    sys.exit(asyncio.run((run_with_hosts if hosts else run_with_proxy)(agent, command)))


@client.command()
@enrolment_option
@server_option
@click.option(
    "--listen",
    default=("127.0.0.1:5300",),
    multiple=True,
    show_default=True,
    metavar="ADDRESS:PORT",
    callback=_endpoints,
    help="A loopback address to answer at; may be repeated.",
)
@click.option(
    "--upstream",
    multiple=True,
    metavar="ADDRESS:PORT",
    callback=_endpoints,
    help="The resolver for all other names; default: those of /etc/resolv.conf.",
)
def stub(enrolment: Path | None, servers: tuple[str, ...], listen: tuple[str, ...], upstream: tuple[str, ...]) -> None:
    """Answer DNS queries of this machine: enrolled names with proven addresses, all others from upstream."""
    agent = Agent.load(enrolment, servers=servers)
    others = [server for server in upstream or system_servers() if server not in listen]
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve([Stub(agent, address, others) for address in listen]))


async def _serve(stubs: list[Stub]) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with AsyncExitStack() as running:
        for stub in stubs:
            await running.enter_async_context(stub)
            click.echo(f"answering at {stub.endpoint}", err=True)
        await stopped.wait()
