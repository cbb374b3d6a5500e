"""The locks: complete, in step with pyproject.toml, without addresses, and above versions with known holes."""

from __future__ import annotations

import re
import tomllib
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
    "aiohttp": "3.13.3",  # CVE-2025-69223 to 69230
    "cryptography": "46.0.5",  # CVE-2026-26007
    "dnspython": "2.6.1",  # CVE-2023-29483
    "idna": "3.7",  # CVE-2024-3651
    "pydantic": "2.4.0",  # CVE-2024-3772
    "pytest": "9.0.3",  # CVE-2025-71176
    "requests": "2.32.4",  # CVE-2024-47081
    "setuptools": "78.1.1",  # CVE-2025-47273
    "urllib3": "2.6.3",  # CVE-2026-21441
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
        floors = [Version(each.version) for each in requirement.specifier if each.operator == ">="]
        assert max(floors) >= fixed, text


def test_make_installs_the_lock() -> None:
    """What developers and CI install is the lock, and the project without dependencies or build isolation."""
    installs = re.findall(r"\$\(PIP\) install (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert installs == [
        "--require-hashes --only-binary :all: --requirement deploy/requirements-dev.lock",
        "--no-deps --no-build-isolation --editable .",
    ]
