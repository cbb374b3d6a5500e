"""Wheel and sdist: built from a copy of the sources, installed into a clean environment, and used there."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.node.serving import Node, within

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]  # installs forty packages

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "dnsvip"
LEFT_OUT = shutil.ignore_patterns(".*_cache", ".venv", ".git", "__pycache__", "*.egg-info", "build", "dist", "*.bpf.o")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with sdist and wheel; the wheel is built from the sdist."""
    folder = tmp_path_factory.mktemp("built")
    shutil.copytree(ROOT, folder / "copy", symlinks=True, ignore=LEFT_OUT)
    _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", folder / "copy")
    return folder / "dist"


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and its dependencies, nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    _run(sys.executable, "-m", "venv", "--without-pip", folder)
    (wheel,) = built.glob("*.whl")
    # Without byte code: compiling forty packages takes longer than the few starts below.
    _run(*_pip(folder), "install", "--quiet", "--no-compile", wheel)
    return folder


def _pip(folder: Path) -> tuple[str | Path, ...]:
    """Our own pip, at work in another environment."""
    return sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", folder / "bin" / "python"


def _run(*argv: str | Path, cwd: Path | None = None, expect: int = 0) -> str:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
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


def test_the_node_serves(installed: Path, tmp_path: Path) -> None:
    """The installed program creates a database, applies the example site and answers dig."""
    made = Node(tmp_path)
    program = installed / "bin" / "dnsvip"
    _run(program, "apply", "site.toml", "--config", "node.toml", cwd=tmp_path)
    with (tmp_path / "log").open("wb") as log:
        argv = [program, "serve", "node.toml", "--token-file", "token"]
        with subprocess.Popen(argv, cwd=tmp_path, stdout=log, stderr=log) as process:
            try:
                within(40, lambda: process.poll() is not None or '"event": "ready"' in made.log)
                assert made.dig("AAAA", "www.example.test") == "2001:db8:a:1::1", made.log
                assert made.curl("GET", "tiers")[0] == 200
            finally:
                process.terminate()
