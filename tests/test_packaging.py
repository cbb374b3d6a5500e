"""Wheel and sdist: built from a copy of the sources, installed into a clean environment, and used there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.test_docs import BLOCK, RUN, isolated

pytestmark = [pytest.mark.release, pytest.mark.slow, pytest.mark.timeout(400)]  # installs forty packages

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "dnsvip"
INSTALL = re.compile(r"^```shell\n(.*?)^```$", re.MULTILINE | re.DOTALL).findall(
    (ROOT / "deploy" / "README.md").read_text()
)
"""The commands by which deploy/README.md makes a wheel, and installs it."""
LEFT_OUT = shutil.ignore_patterns(".*_cache", ".venv", ".git", "__pycache__", "*.egg-info", "build", "dist", "*.bpf.o")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with sdist and wheel, made as deploy/README.md says; the wheel is built from the sdist."""
    folder = tmp_path_factory.mktemp("built") / "copy"
    shutil.copytree(ROOT, folder, symlinks=True, ignore=LEFT_OUT)
    _run("bash", "-euxc", INSTALL[0].replace(".venv/bin/python", sys.executable), cwd=folder)
    return folder / "dist"


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with what the lock names and the wheel, nothing else, made as deploy/README.md says."""
    folder = tmp_path_factory.mktemp("installed")
    shutil.copy(ROOT / "deploy" / "requirements.lock", built)
    # Without byte code: compiling forty packages takes longer than the few starts below.
    script = INSTALL[1].replace("pip install", "pip install --quiet --no-compile").replace("/opt/dnsvip", str(folder))
    _run("bash", "-euxc", script.replace("python3 -m venv", f"{sys.executable} -m venv"), cwd=built)
    return folder


def _pip(folder: Path) -> tuple[str | Path, ...]:
    """Our own pip, at work in another environment."""
    return sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", folder / "bin" / "python"


def _run(*argv: str | Path, cwd: Path | None = None, expect: int = 0, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == expect, f"{argv}: {done.stdout}\n{done.stderr}"
    return done.stdout


def _own_files(*folders: str) -> set[str]:
    listed = subprocess.run(["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(listed.stdout.split())


def test_the_wheel_is_whole(built: Path) -> None:
    """Every tracked file of the package is in the wheel, and so are kernel programs, migrations and examples."""
    assert not [path for path in PACKAGE.rglob("*") if path.is_symlink()]
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name for name in _own_files("dnsvip") if name not in names} == set()
    programs = {name.removesuffix(".c") for name in names if name.endswith(".bpf.c")}
    assert programs
    assert {f"{name}.o" for name in programs} <= names  # compiled from the sources in the sdist
    scripts = {f"dnsvip/store/{name}" for name in _own_files("migrations")}
    assert scripts - names == set()
    shared = {name.partition(".data/data/share/dnsvip/")[2] for name in names if ".data/data/" in name}
    assert _own_files("examples", "deploy") - shared == set()


def test_the_sdist_is_whole(built: Path) -> None:
    """The sdist has everything that the wheel is built from, and the licence."""
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    own = _own_files("dnsvip", "migrations", "examples", "deploy", "LICENSE", "README.md", "pyproject.toml")
    assert own - names == set()


def test_the_program_runs(installed: Path) -> None:
    """The installed program prints its version and knows its commands; no dependency is missing."""
    dnsvip = installed / "bin" / "dnsvip"
    assert _run(dnsvip, "--version").startswith("dnsvip, version ")
    assert "network namespaces" in _run(dnsvip, "demo", "--help")
    _run(*_pip(installed), "check")


@pytest.mark.network
def test_the_first_steps(installed: Path, tmp_path: Path) -> None:
    """The README's first steps work with the installed program and the examples that came with it."""
    shutil.copytree(installed / "share" / "dnsvip" / "examples", tmp_path / "examples")
    script = RUN + "set -x\n" + "\n".join(BLOCK.findall((ROOT / "README.md").read_text()))
    environment = {**os.environ, "PATH": f"{installed / 'bin'}:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(tmp_path)}
    assert "reached" in _run(*isolated("bash", "-c", f"{script}\necho reached"), cwd=tmp_path, env=environment)
