"""Imports only go down, and the packages that decide know no socket, clock, randomness, log, database or file.

The rule is visible in every path: outside a folder called `io`, the packages in PURE are pure.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "dnsvip"

FLOORS = (
    {"errors", "fair_queue", "printable", "rtnetlink", "suggestion"},
    {"address", "fair_places"},
    {"site"},
    {"jobs", "store", "telemetry", "xdp"},
    {"dns", "dispatcher", "client"},
    {"decoder"},
    {"admin", "doctor", "demo"},
    {"node"},
    {"cli"},
    {"__main__"},
)
"""Packages from the ground up. A package imports itself and lower floors, never a neighbour on its own floor."""

PURE = {
    "errors",
    "fair_queue",
    "printable",
    "rtnetlink",
    "suggestion",
    "address",
    "site",
    "dns",
    "dispatcher",
    "client",
    "decoder",
}

IMPURE = {
    "aiohttp",
    "alembic",
    "asyncio",
    "asyncpg",
    "fcntl",
    "glob",
    "http",
    "logging",
    "maxminddb",
    "multiprocessing",
    "os",
    "pyroute2",
    "random",
    "secrets",
    "select",
    "selectors",
    "shutil",
    "signal",
    "socket",
    "sqlalchemy",
    "sqlite3",
    "ssl",
    "structlog",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "urllib",
    "uvloop",
}
"""What a decision gets as an argument instead."""

FLOOR = {package: number for number, floor in enumerate(FLOORS) for package in floor}


def _modules() -> list[tuple[str, Path]]:
    dotted = [(".".join(path.relative_to(PACKAGE).with_suffix("").parts), path) for path in PACKAGE.rglob("*.py")]
    return sorted((name.removesuffix("__init__").rstrip("."), path) for name, path in dotted if name != "__init__")


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _is_pure(module: str) -> bool:
    top, *rest = module.split(".")
    return top in PURE and "io" not in rest


def _is_face(path: Path) -> bool:
    """Whether a file only names what outsiders may use: imports, `__all__`, a docstring, PEP 562's lazy loading."""
    statements = ast.parse(path.read_text()).body
    return path.name == "__init__.py" and all(
        isinstance(statement, ast.Import | ast.ImportFrom | ast.Assign | ast.Expr) or _is_lazy_import(statement)
        for statement in statements
    )


def _is_lazy_import(statement: ast.stmt) -> bool:
    match statement:
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return all(isinstance(inner, ast.ImportFrom) for inner in statement.body) and not statement.orelse
        case ast.FunctionDef(name="__getattr__"):
            return True
        case _:
            return False


@pytest.mark.parametrize(("module", "path"), _modules())
def test_imports_go_down(module: str, path: Path) -> None:
    """A module imports its own package and lower floors only."""
    own = module.partition(".")[0]
    others = {name.split(".")[1] for name in _imports(path) if name.startswith("dnsvip.")} - {own, "__version__"}
    assert not {other for other in others if FLOOR[other] >= FLOOR[own]}, f"{module} imports {others}"


@pytest.mark.parametrize(("module", "path"), [(m, p) for m, p in _modules() if _is_pure(m)])
def test_decisions_are_pure(module: str, path: Path) -> None:
    """Outside `io` a deciding package imports nothing that knows the world, and opens no file."""
    used = {name for name in _imports(path) if name.partition(".")[0] in IMPURE}
    if not _is_face(path):
        used |= {name for name in _imports(path) if name.startswith("dnsvip.") and ".io." in f"{name}."}
    calls = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not used, f"{module} is a decision, yet imports {', '.join(sorted(used))}"
    assert not calls & {"open", "input", "print"}, f"{module} is a decision, yet reads or writes"


@pytest.mark.parametrize("package", sorted(FLOOR))
def test_parts_import_no_circle(package: str) -> None:
    """The parts of a package, its folders and files, have an order too: none imports itself by way of others."""
    graph: dict[str, set[str]] = {}
    for module, path in _modules():
        if module.startswith(f"{package}."):
            part = module.split(".")[1]
            used = (name.split(".")[2] for name in _imports(path) if name.startswith(f"dnsvip.{package}."))
            graph.setdefault(part, set()).update(set(used) - {part})
    TopologicalSorter(graph).prepare()
