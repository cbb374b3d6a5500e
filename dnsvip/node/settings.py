"""Every setting of a node file in one table: name, what it takes, default, help.

`python -m dnsvip.node.settings` prints it, and deploy/node.md is what it prints. Names, types and defaults
come from the classes of `config`; only the help is written here, and a test fails where a setting has none.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from dnsvip.node.reload import LIVE
from dnsvip.site.node_file import NodeConfig
from dnsvip.site.reference import takes

HEAD = """\
# The node file

Every setting of `NODE.toml`, as `dnsvip serve` and `dnsvip dispatch` take it. Paths are relative to the file. `a.b.c`
is the key `c` in the table `[a.b]`; `a[].b` the key `b` of each table `[[a]]`. What nodes share is in the database.
Settings marked *live* are taken over by SIGHUP (`systemctl reload`), all others by a restart.

Made by `python -m dnsvip.node.settings` from the program's own classes; do not edit.

| setting | takes | default | what it does |
| --- | --- | --- | --- |
"""

_SAMPLES = {
    "one_in": "one {what} in so many is written; without the table none",
    "file": "where to; else standard output (with several workers standard error)",
    "keep4": "bits of clients' IPv4 addresses that are written; 32: whole ones",
    "keep6": "bits of clients' IPv6 addresses that are written; 128: whole ones{more}",
}

HELP: Mapping[str, str] = {
    "database": '`"sqlite:///FILE"`, or `"postgresql://USER@HOST/NAME"` as libpq takes it (dnsvip/store/README.md)',
    "key_file": "the key-encryption key, mode 0600, made when missing; `DNSVIP_KEY` in the environment goes before",
    "key_command": "a program and its arguments that print the key-encryption key, in place of `key_file`",
    "state_dir": "where the last good snapshot is kept, and the dispatcher's socket",
    "node": "what the node is called in the registry; else the host's name",
    "dns.listen[].address": "an address to answer DNS on, UDP and TCP; by default `127.0.0.1:5353` and `[::1]:5353`",
    "dns.listen[].name": 'what a client\'s `match = [{ listener = "NAME" }]` refers to',
    "dns.workers": "processes that answer on the same ports; one a core",
    "dns.identity": "what CHAOS TXT id.server and hostname.bind are answered; else nothing",
    "dns.version": "what version.server and version.bind are answered; true: the program's own",
    "dns.nsid": "the EDNS option NSID (RFC 5001); else none",
    "dns.require_cookies": "a UDP query with a cookie that is none of ours gets BADCOOKIE (RFC 7873)",
    "dns.rate_limit.responses_per_second": "alike answers a second to one prefix (/24, /56) by UDP, of each worker",
    "dns.rate_limit.slip": "of the answers beyond, every so many is sent empty, to come by TCP; 0: none",
    "dns.tcp.connections": "connections of one worker at most",
    "dns.tcp.per_source": "connections of one source (an IPv4 address, an IPv6 /64) at most",
    "dns.tcp.idle_seconds": "a connection without a whole question for so long is closed",
    "dns.proxy_from": "front ends that say by a PROXY header, version 2, who asks",
    "admin.listen": "where the HTTP API and the console are: ADDRESS:PORT, or `unix:PATH`; without the table nowhere",
    "admin.tls.certificate": "a PEM file with the API's certificate and chain; renewed ones are taken over",
    "admin.tls.key": "the PEM file of its key",
    "dispatch.mode": "`user` takes packets by a TUN device, `xdp` by a program in the kernel; same verdicts",
    "dispatch.interface": "where clients' packets come from; needed for `xdp`, and for its MTU else",
    "dispatch.flows": "flows that are remembered at most",
    "dispatch.encap_source": 'the /64 of the outer source address under `forward = "encap"`',
    "dispatch.generic": "attach the program above a driver that has no native XDP; slower",
    "dispatch.fixed_time_aes": "without AES in hardware: the kernel's slower AES, whose timing says less to others on "
    "the same processor",
    "dispatch.pins": "a folder in a BPF file system, which keeps the program while no process runs",
    "geo.database": "MaxMind DB files, for clients with `match = [{ geo = ... }]`; read anew when they change",
    "log.format": "lines for people, or JSON; on standard error",
    "log.level": "from which level on lines are written",
    "log.queries": "question",
    "log.flows": "new or refused flow",
    "metrics.listen": "where `serve` answers /metrics, /healthz, /readyz without a token; else only beside the API",
    "metrics.dispatch_listen": "the same for `dispatch`, which has no API",
    "metrics.allow": "networks that /metrics is answered to there",
    "metrics.stale_seconds": "a process whose database is silent for longer is not ready; 0: it stays so",
}


@dataclass(frozen=True, slots=True)
class Setting:
    """One row. `help` is None where nobody has written one; `default` is None where there is none."""

    name: str
    takes: str
    default: str | None
    help: str | None


def settings() -> Iterator[Setting]:
    """All of them, in the order of their classes."""
    schema = TypeAdapter(NodeConfig).json_schema()
    yield from _walk(schema, "", schema["$defs"])


def _walk(node: Mapping[str, Any], head: str, tables: Mapping[str, Any]) -> Iterator[Setting]:
    required = set(node.get("required", ()))
    for name, value in node["properties"].items():
        many = "[]" if "$ref" in value.get("items", {}) else ""
        inner = _reference(value) or _reference(value.get("items", {}))
        if inner:
            yield from _walk(tables[inner], f"{head}{name}{many}.", tables)
            continue
        default = None if name in required else _default(value.get("default"))
        yield Setting(f"{head}{name}", takes(value), default, _help(f"{head}{name}"))


def _reference(value: Mapping[str, Any]) -> str | None:
    found = [value, *value.get("anyOf", ())]
    return next((each["$ref"].rpartition("/")[2] for each in found if "$ref" in each), None)


def _default(value: Any) -> str:
    return "" if value in (None, []) else json.dumps(value)


def _help(name: str) -> str | None:
    table, _, key = name.rpartition(".")
    if table in ("log.queries", "log.flows") and key in _SAMPLES:
        more = ", and the VIP and client too" if table == "log.flows" else ""
        return _SAMPLES[key].format(what=HELP[table], more=more)
    return HELP.get(name)


def markdown() -> str:
    """The page."""
    rows = []
    for each in settings():
        now = any(each.name == key or each.name.startswith(f"{key}.") for key in LIVE)
        default = "*required*" if each.default is None else f"`{each.default}`" if each.default else ""
        text = f"{each.help or ''}{' *(live)*' if now else ''}"
        rows.append(f"| `{each.name}` | {each.takes} | {default} | {text} |\n")
    return HEAD + "".join(rows)


if __name__ == "__main__":
    sys.stdout.write(markdown())
