"""Imports only go down, and nothing pure knows sockets, clocks, randomness, logs or the database."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "dnsvip"

AREAS = ("dns", "dispatcher", "client")
"""Decision areas: each may know the model and nothing of the others."""

SHELLS = {
    "dns.classification.geo",
    "dns.transports.buffers",
    "dns.transports.mmsg",
    "dns.transports.server",
    "dns.transports.tcp",
    "dns.transports.udp",
    "dns.transports.workers",
    "dispatcher.observing.control",
    "dispatcher.kernel.decap",
    "dispatcher.health.checks",
    "dispatcher.kernel.view",
    "dispatcher.kernel.neighbours",
    "dispatcher.userspace.netlink",
    "dispatcher.userspace.paths",
    "dispatcher.kernel.plane",
    "dispatcher.health.probes",
    "dispatcher.userspace.runner",
    "dispatcher.userspace.tun",
    "dispatcher.kernel.xdp",
    "client",
    "client.agent",
    "client.command",
    "client.enter",
    "client.exchange",
    "client.files",
    "client.hosts",
    "client.lookup",
    "client.proxy",
    "client.stub",
    "client.system",
}
"""What moves bytes and reads clocks inside a decision area; every other module there is pure."""

LAYER = {
    "": 0,
    "errors": 0,
    "codec": 1,
    "shards": 1,
    "model": 2,
    "spec": 3,
    "rights": 3,
    "rules": 4,
    "plan": 5,
    "epochs": 5,
    "changes": 6,
    "history": 6,
    **dict.fromkeys(AREAS, 5),
    "config": 6,
    "log": 7,
    "samplelog": 7,
    "store": 7,
    "bpf": 7,
    "metrics": 8,
    "shell": 8,
    "admin": 9,
    "demo": 9,
    "doctor": 9,
    "cli": 10,
    "__main__": 11,
}
"""Area -> height. Nothing imports from a greater height; equal heights know only themselves."""

DNS_LAYER = {
    "dns": 0,
    "dns.recent": 0,
    "dns.protocol": 1,
    "dns.classification": 2,
    "dns.zones": 2,
    "dns.services": 3,
    "dns.counters": 4,
    "dns.protection": 4,
    "dns.control": 5,
    "dns.transfer": 5,
    "dns.answer": 6,
    "dns.explain": 7,
    "dns.querylog": 7,
    "dns.hotpath": 7,
    "dns.transports": 8,
}
"""The same inside the DNS server: a part imports itself and those that stand lower."""

DISPATCHER_LAYER = {
    "dispatcher": 0,
    "dispatcher.packet": 0,
    "dispatcher.reason": 0,
    "dispatcher.qos": 0,
    "dispatcher.verdict": 1,
    "dispatcher.words": 2,
    "dispatcher.flows": 2,
    "dispatcher.judging": 2,
    "dispatcher.leaving": 2,
    "dispatcher.health": 2,
    "dispatcher.tables": 3,
    "dispatcher.decide": 4,
    "dispatcher.example": 5,
    "dispatcher.observing": 5,
    "dispatcher.userspace": 6,
    "dispatcher.kernel": 7,
}
"""The same inside the dispatcher."""

CLI_LAYER = {
    "cli": 0,
    "cli.examples": 0,
    "cli.shared": 1,
    "cli.database": 2,
    "cli.machine": 2,
    "cli.operating": 2,
    "cli.processes": 2,
    "cli.objects": 3,
    "cli.completion": 4,
}
"""The same inside the command line; `cli` itself loads the others by name, when a command is called."""

ADMIN_LAYER = {
    "admin": 0,
    "admin.node": 0,
    "admin.framework": 1,
    "admin.operating": 2,
    "admin.objects": 3,
    "admin.bulk": 4,
    "admin.console": 4,
    "admin.app": 5,
}
"""The same inside the HTTP API."""

PARTS = {**DNS_LAYER, **DISPATCHER_LAYER, **CLI_LAYER, **ADMIN_LAYER}

PURE = (*AREAS, "codec", "model", "rights", "spec", "rules", "plan", "epochs", "changes", "history")

IMPURE = {
    "aiohttp",
    "asyncio",
    "os",
    "random",
    "secrets",
    "select",
    "socket",
    "sqlalchemy",
    "structlog",
    "logging",
    "time",
}


def _modules() -> list[tuple[str, Path]]:
    dotted = [(".".join(path.relative_to(PACKAGE).with_suffix("").parts), path) for path in PACKAGE.rglob("*.py")]
    return sorted((name.removesuffix("__init__").rstrip("."), path) for name, path in dotted)


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            if node.module == "dnsvip":
                yield from (f"dnsvip.{alias.name}" for alias in node.names if alias.name != "__version__")


def _top(module: str) -> str:
    return module.partition(".")[0]


def _area(module: str) -> str:
    return "shell" if module in SHELLS else _top(module)


def _part(module: str) -> str:
    return ".".join(module.split(".")[:2])


@pytest.mark.parametrize(("module", "path"), _modules())
def test_imports_go_down(module: str, path: Path) -> None:
    """A module imports its own area and lower layers only."""
    own = _area(module)
    for name in _imports(path):
        if name.partition(".")[0] != "dnsvip":
            continue
        target = name.removeprefix("dnsvip").lstrip(".")
        other = _area(target)
        same = own == other or _top(module) == _top(target) != ""
        assert same or LAYER[other] < LAYER[own] or not target, f"{module} imports {name}"


@pytest.mark.parametrize(("module", "path"), [(m, p) for m, p in _modules() if "." in m and _top(m) in PARTS])
def test_parts_import_down(module: str, path: Path) -> None:
    """A part of a grouped area imports itself and lower parts of it only."""
    own = _part(module)
    for name in _imports(path):
        if name.startswith(f"dnsvip.{_top(module)}."):
            other = _part(name.removeprefix("dnsvip."))
            assert own == other or PARTS[other] < PARTS[own], f"{module} imports {name}"


@pytest.mark.parametrize(
    ("module", "path"),
    [
        (m, p)
        for m, p in _modules()
        if _top(m) in ("codec", "model", "rights", "spec", "rules", "plan", "epochs", "changes", "history", *AREAS)
    ],
)
def test_decisions_are_pure(module: str, path: Path) -> None:
    """Decisions get clock, randomness and bytes as arguments."""
    if module in SHELLS:
        return
    used = {name.partition(".")[0] for name in _imports(path)} & IMPURE
    shells = {name for name in _imports(path) if name.removeprefix("dnsvip.") in SHELLS}
    assert not used | shells, f"{module} is a decision, yet imports {', '.join(sorted(used | shells))}"
