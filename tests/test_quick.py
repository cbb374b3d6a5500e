"""`make quick` finds the tests of every file in the tree, and near ones where there are any."""

from __future__ import annotations

import subprocess

import pytest

from tests.quick import ELSEWHERE, LAYERS, ROOT, SCRIPTS, changed, steps, targets_of


def tracked(*patterns: str) -> list[str]:
    done = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.split() if (ROOT / name).is_file()]


def test_every_module_has_tests() -> None:
    """Each module of the package, each migration and each script maps to tests that exist."""
    modules = tracked("dnsvip/**.py", "dnsvip/**.js", "dnsvip/**.css", "dnsvip/**.c", "dnsvip/**.h", "migrations/**.py")
    assert len(modules) > 300
    mapped = {module: targets_of(module) for module in modules}
    assert {module for module, tests in mapped.items() if not tests} == set()
    assert {test for tests in mapped.values() for test in tests if not (ROOT / test).exists()} == set()


def test_special_cases_exist() -> None:
    """What has no mirror is still in the tree, and so are its tests."""
    assert {path for pair in ELSEWHERE.items() for path in pair if not (ROOT / path).exists()} == set()


@pytest.mark.parametrize(
    ("path", "tests"),
    [
        ("dnsvip/address/ff1.py", {"tests/address/test_ff1.py"}),
        ("dnsvip/node/reload.py", {"tests/node/test_reload.py"}),
        ("dnsvip/telemetry/metrics/dns.py", {"tests/telemetry"}),
        ("dnsvip/errors.py", {LAYERS}),
        ("dnsvip/admin/console/static/index.html", {"tests/console"}),
        ("tests/address/test_ff1.py", {"tests/address/test_ff1.py"}),
        ("tests/address/strategies.py", {"tests/address"}),
        ("README.md", {"tests/test_docs.py"}),
        ("LICENSE", set()),
    ],
)
def test_near(path: str, tests: set[str]) -> None:
    """A module's own test file where there is one, else its package's folder."""
    assert targets_of(path) == tests


def test_importers_are_near() -> None:
    """A test of the same package that imports a module is near it, whatever its name."""
    assert "tests/client/test_interop.py" in targets_of("dnsvip/client/enrolment.py")


def test_changed_files_exist() -> None:
    """What has been deleted since is not asked for."""
    assert all((ROOT / name).exists() for name in changed("HEAD"))


@pytest.mark.parametrize(
    ("path", "checked"),
    [
        ("dnsvip/admin/console/static/js/api/schema.js", True),
        ("tests/console/javascript/package-lock.json", True),
        ("dnsvip/site/traffic.py", True),
        ("dnsvip/dns/engine.py", False),
    ],
)
def test_scripts_are_checked(path: str, checked: bool) -> None:
    """`make scripts` is a step where the scripts or what their types are made from have changed."""
    assert (["make", "--no-print-directory", "scripts"] in steps([path])) == checked


def test_what_scripts_depend_on_exists() -> None:
    """Each start of a path that makes `make scripts` a step leads to files."""
    assert [head for head in SCRIPTS if not tracked(f"{head}*")] == []
