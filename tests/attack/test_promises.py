"""Every promise of SECURITY.md is held by tests that exist: README.md beside this file says by which."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMPARED = {
    "dnsvip/dns/protocol/tsig.py": 1,
    "dnsvip/dns/protection/cookies.py": 1,
    "dnsvip/admin/console/signin.py": 1,
    "dnsvip/admin/console/oidc.py": 1,
    "dnsvip/admin/console/id_tokens.py": 1,
    "dnsvip/client/io/proxy.py": 1,
    "dnsvip/client/io/proxy_requests.py": 2,
}
"""Files that compare what only its holder knows, and how often."""


def rows(page: Path) -> list[tuple[str, str]]:
    """The cells of a page's table of promises."""
    table = page.read_text().split("| promise |", 1)[1].split("\n\n", 1)[0]
    cells = (line.strip("|").split(" | ", 1) for line in table.splitlines()[2:] if line.startswith("|"))
    return [(first.strip(), second.strip()) for first, second in cells]


def test_every_promise_has_its_tests() -> None:
    """The two tables have the same promises in the same order, and every test that is named exists."""
    promises, held = rows(ROOT / "SECURITY.md"), rows(Path(__file__).with_name("README.md"))
    assert len(promises) == len(held)
    for (promise, _), (ours, tests) in zip(promises, held, strict=True):
        assert promise.startswith(ours), f"{ours!r} is not how {promise!r} begins"
        named = re.findall(r"`([^`]+)::(\w+)`", tests)
        assert named, promise
        for file, function in named:
            tree = ast.parse((ROOT / file).read_text())
            functions = {each.name for each in tree.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
            assert function in functions, f"{file} has no {function}"


def test_secrets_are_compared_in_constant_time() -> None:
    """MACs, cookies, CSRF tokens and passwords are compared by hmac.compare_digest."""
    for file, least in COMPARED.items():
        assert (ROOT / file).read_text().count("hmac.compare_digest(") >= least, file
