"""`dnsvip client`: make and import an enrolment, resolve, and run programs with proven addresses."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from ipaddress import IPv6Address
from pathlib import Path

import click

from dnsvip.cli.machine.client_options import (
    FILE,
    SERVER,
    agent_options,
    encryption_options,
    endpoints,
    enrolment_option,
    servers,
    warn,
)
from dnsvip.cli.shared.database import load_snapshot, tell_enrolment
from dnsvip.client.certificate import Chain, read_chain, request_for
from dnsvip.client.enrol import Encryption, cautions, make_enrolment, unused
from dnsvip.client.enrolment import Enrolment, dump, parse
from dnsvip.client.io import files
from dnsvip.client.io.agent import Agent
from dnsvip.client.io.certificate_files import CertificateFiles
from dnsvip.client.io.command import run_with_hosts, run_with_proxy
from dnsvip.client.io.renewing import renewing
from dnsvip.client.io.resolved import Resolved
from dnsvip.client.io.stub import Stub
from dnsvip.client.io.upstream import system_servers
from dnsvip.errors import ClientError


@click.group()
def client() -> None:
    """A client of encoded addresses: enrol, resolve, run programs."""


@client.command()
@click.argument("name")
@click.option("--config", required=True, type=FILE, help="The node file, to find the database.")
@click.option(
    "--server",
    "servers",
    multiple=True,
    metavar=SERVER,
    callback=servers,
    help="A DNS server that the client asks; may be repeated. Default: those of the DNS group of its tier.",
)
@encryption_options
@click.option("--output", type=FILE, help="The file to write, readable by its owner only; else standard output.")
def enrol(name: str, config: Path, servers: tuple[str, ...], output: Path | None, encryption: Encryption) -> None:
    """Create the enrolment of client NAME (for operators). It contains the client's keys: transfer it securely."""
    snapshot = load_snapshot(config)
    enrolment = parse(dump(make_enrolment(snapshot, name, servers, encryption)), f"the enrolment of {name}")
    tell_enrolment(config, name, snapshot.site.clients[name].key_generation, **enrolment.audited)
    for caution in [*cautions(snapshot, name), *unused(enrolment)]:
        warn(caution)
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
    for caution in unused(parsed):
        warn(caution)
    click.echo(f"{target}: enrolled as {parsed.client} for {_services(parsed)}")


def _services(enrolment: Enrolment) -> str:
    return ", ".join(enrolment.services)


@client.command()
@click.argument("name")
@agent_options(own_address=True)
@click.option(
    "--port", type=click.IntRange(1, 65535), default=None, help="The source port, where the proof is bound to it."
)
@click.option("--source", type=IPv6Address, metavar="ADDRESS", help="The source address; default: this machine's.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def resolve(
    name: str, load: Callable[..., Agent], port: int | None, source: IPv6Address | None, *, as_json: bool
) -> None:
    """The address to connect to for NAME, proven with this client's key."""
    agent = load()
    resolved = agent.resolve_sync(name, source=source, port=port or 0)
    click.echo(json.dumps(_plain(resolved)) if as_json else _shown(resolved))


def _plain(resolved: Resolved) -> dict[str, object]:
    more: dict[str, object] = {"label": resolved.label} if resolved.label else {}
    if resolved.source is not None:
        more["source"] = str(resolved.source)
    return {
        "name": resolved.name,
        "address": str(resolved.address),
        "issued": str(resolved.issued),
        "ttl": resolved.ttl,
        "proven": resolved.proven,
        "valid_until": resolved.valid_until,
        "why": resolved.why.name.lower().replace("_", "-"),
        **more,
    }


def _shown(resolved: Resolved) -> str:
    if resolved.source is not None:
        return f"{resolved.address}\n  to be reached from {resolved.source}"
    if not resolved.proven:
        return f"{resolved.address}\n  not proven: {resolved.why}"
    label = f"\n  with flow label {resolved.label:#07x}" if resolved.label else ""
    left = max(0, round(resolved.valid_until - time.time()))
    return (
        f"{resolved.address}\n  proven for new connections in the next {left} s\n  issued as {resolved.issued}{label}"
    )


@client.command("exec", context_settings={"allow_interspersed_args": False})
@agent_options(own_address=True)
@click.option("--hosts", is_flag=True, help="For programs that know no proxies: give it an /etc/hosts of its own.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(command: tuple[str, ...], load: Callable[..., Agent], *, hosts: bool) -> None:
    """Run COMMAND so that it connects to proven addresses; its exit status is passed on.

    Certificate names and Host stay those of the URL. By default through a proxy on a loopback port that
    COMMAND finds in its environment.
    """
    sys.exit(asyncio.run(_run(load(), command, hosts=hosts)))


async def _run(agent: Agent, command: tuple[str, ...], *, hosts: bool) -> int:
    async with renewing(agent, warn):
        return await (run_with_hosts if hosts else run_with_proxy)(agent, command)


@client.command()
@enrolment_option
def renew(enrolment: Path | None) -> None:
    """Fetch the DNS servers of the enrolment anew, as `exec` and `stub` do every five minutes, and the tickets of all
    services, to be used wherever a resolver tells the plain address."""
    agent = Agent.load(enrolment, warn=warn)
    changed, tickets = asyncio.run(_renewed(agent))
    servers = ", ".join(agent.enrolment.servers) if agent.enrolment else "none"
    click.echo(f"{'new' if changed else 'the same'} servers: {servers}")
    click.echo(f"tickets: {tickets}")


async def _renewed(agent: Agent) -> tuple[bool, int]:
    try:
        return await agent.renew(), await agent.fetch_tickets()
    finally:
        agent.close()


@client.command()
@enrolment_option
@click.option("--request", is_flag=True, help="Print a request for a certificate, for an operator, and ask nobody.")
@click.option("--import", "imported", type=FILE, help="Keep the certificate in a file, which an operator has issued.")
def certify(enrolment: Path | None, imported: Path | None, *, request: bool) -> None:
    """Get a certificate that says who this client is over encrypted DNS, for a key that is made here and stays here.

    The DNS servers issue it to who has a TSIG key or a certificate; `exec`, `stub` and `renew` replace it in time. For
    others an operator does, by `dnsvip clients certify`.
    """
    agent, path = Agent.load(enrolment, warn=warn), enrolment or files.default_path()
    if agent.enrolment is None:
        raise ClientError("there is no enrolment: import one with `dnsvip client import`")
    kept = CertificateFiles(path)
    if request:
        click.echo(request_for(kept.made_key(), agent.enrolment.client), nl=False)
        return
    if imported is not None:
        chain = read_chain(files.read(imported), str(imported), kept.read_key().public_key())
        kept.save(chain)
    else:
        chain = asyncio.run(_certified(agent))
    until = f"{datetime.fromtimestamp(chain.until, UTC):%Y-%m-%d %H:%M} UTC"
    click.echo(f"{kept.chain}: a certificate of {agent.enrolment.client} until {until}")


async def _certified(agent: Agent) -> Chain:
    try:
        return await agent.certify()
    finally:
        agent.close()


@client.command()
@agent_options(own_address=False)
@click.option(
    "--listen",
    default=("127.0.0.1:5300",),
    multiple=True,
    show_default=True,
    metavar="ADDRESS:PORT",
    callback=endpoints,
    help="A loopback address to answer at; may be repeated.",
)
@click.option(
    "--upstream",
    multiple=True,
    metavar=SERVER,
    callback=servers,
    help="The resolver for all other names; default: those of /etc/resolv.conf.",
)
def stub(load: Callable[..., Agent], listen: tuple[str, ...], upstream: tuple[str, ...]) -> None:
    """Answer DNS queries of this machine: enrolled names with proven addresses, all others from upstream."""
    others = [server for server in upstream or system_servers() if server not in listen]
    agent = load(resolvers=others)
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(agent, [Stub(agent, address, others) for address in listen]))


async def _serve(agent: Agent, stubs: list[Stub]) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with AsyncExitStack() as running, renewing(agent, warn):
        for stub in stubs:
            await running.enter_async_context(stub)
            click.echo(f"answering at {stub.endpoint}", err=True)
        await stopped.wait()
