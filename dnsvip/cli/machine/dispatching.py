"""Asks the dispatcher of this machine at its control socket (dispatcher/io/control.py)."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import click

from dnsvip.dispatcher.io.control import SOCKET, VERSION
from dnsvip.errors import PlatformError
from dnsvip.site.io.files import load_node
from dnsvip.site.plain import JsonObject

CONFIG = click.option(
    "--config",
    "node_file",
    metavar="NODE.toml",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    envvar="DNSVIP_CONFIG",
    help="The node file that the dispatcher was started with; default: DNSVIP_CONFIG.",
)
LONGEST_LINE = 1 << 20


def ask(node_file: Path, request: JsonObject) -> Iterator[JsonObject]:
    """The answer, document by document; raises PlatformError where no dispatcher answers or it refuses."""
    path = load_node(node_file).state_dir / SOCKET
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(path))
            connection.sendall(json.dumps(request).encode() + b"\n")
        except FileNotFoundError as error:
            raise PlatformError(f"{path}: no dispatcher runs here with this node file") from error
        except OSError as error:
            raise PlatformError(f"{path}: no dispatcher answers: {error.strerror}") from error
        with connection.makefile("rb") as lines:
            first = _document(lines.readline(LONGEST_LINE), path)
            if first.get("dispatch") != VERSION:
                raise PlatformError(f"{path}: a dispatcher of another version runs here; restart it")
            for line in lines:
                document = _document(line, path)
                if "error" in document:
                    raise PlatformError(str(document["error"]))
                yield document


def matching(what: str | None, **options: str | None) -> JsonObject:
    """The selector of flows and packets in the dispatcher's form; `what` is an address, a prefix or a client."""
    chosen = {key: value for key, value in options.items() if value is not None}
    if what is None:
        return chosen
    try:
        ip_network(what)
    except ValueError:
        return {**chosen, "client": what}
    return {**chosen, "address": what}


def ends(one: JsonObject) -> str:
    """Source and VIP of a packet or flow: tcp [2001:db8::1]:4000 > [2001:db8:a:1::1]:443."""
    if one["protocol"] is None:
        return "unreadable"
    source, vip = _end(one["source"], one["source_port"]), _end(one["vip"], one["port"])
    return f"{one['protocol']} {source} > {vip}"


def _end(address: str, port: int) -> str:
    shown = f"[{address}]" if ip_address(address).version == 6 else address
    return f"{shown}:{port}"


def _document(line: bytes, path: Path) -> dict[str, Any]:
    try:
        document = json.loads(line)
    except ValueError as error:
        raise PlatformError(f"{path}: what answers there is no dispatcher, or it has stopped") from error
    return document if isinstance(document, dict) else {}


def selecting(command: Any) -> Any:
    """The options that select flows and packets, besides WHAT."""
    command = click.option("--server", metavar="[POOL/]SERVER", help="Those of one server.")(command)
    return click.option("--tier", help="Those to addresses of a tier.")(command)
