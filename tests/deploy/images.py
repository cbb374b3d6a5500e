"""The images of deploy/container, built without a registry: on a base that mmdebstrap makes of this Debian."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.deploy.engine import Engine, where
from tests.postgres import newest_bin

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent / "container"
FOLDER = ROOT / "deploy" / "container"
CACHE = ROOT / ".venv" / "containers"
BASE = "localhost/debian"
BASE_IS = f"--build-arg=DEBIAN_IMAGE={BASE}"


def packages() -> list[str]:
    """The Debian packages that the container file installs, so that its own steps need no network."""
    text = (FOLDER / "Containerfile").read_text()
    lists = re.findall(r"apt-get install -y --no-install-recommends (.*?) *\\", text)
    return sorted({name for words in lists for name in words.split()})


def build_images(engine: Engine, folder: Path) -> None:
    """Build `dnsvip`, and a stand-in for the images `postgres` and `prometheus` from this machine's packages."""
    with ThreadPoolExecutor(3) as pool:  # each waits for a network or a disk
        base, wheels, context = pool.submit(_base), pool.submit(_wheels), pool.submit(_services, folder / "services")
        engine.import_image(base.result(), BASE)
        engine.build(context.result(), HERE / "Containerfile", "services", BASE_IS)
        (folder / "build").mkdir()
        shutil.copytree(wheels.result(), folder / "build" / "wheels")
    shutil.copytree(ROOT / "deploy", folder / "deploy")
    shutil.copy(ROOT / ".containerignore", folder)
    engine.build(folder, folder / "deploy" / "container" / "Containerfile", "dnsvip", BASE_IS)


def _base() -> Path:
    """A root file system with the packages, and no source of others; made once a month."""
    release = platform.freedesktop_os_release()["VERSION_CODENAME"]
    parts = [release, time.strftime("%Y-%m"), *packages()]
    archive = CACHE / f"base-{hashlib.sha256(' '.join(parts).encode()).hexdigest()[:16]}.tar"
    if not archive.exists():
        CACHE.mkdir(exist_ok=True)
        for old in CACHE.glob("base-*.tar"):
            old.unlink()
        draft = archive.with_suffix(f".{os.getpid()}")
        options = ["force-unsafe-io", *(f"path-exclude=/usr/share/{name}/*" for name in ("man", "doc", "locale"))]
        no_sources = '--customize-hook=rm -rf "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/*'
        _run(
            "mmdebstrap", "--quiet", "--format=tar", "--variant=minbase", f"--include={','.join(packages())}",
            *(f"--dpkgopt={option}" for option in options), no_sources, release, draft,
        )  # fmt: skip
        draft.rename(archive)
    archive.chmod(0o644)
    return archive


def _wheels() -> Path:
    """The folder of `wheels.sh`, for Debian's own Python, which the base has."""
    version = subprocess.run(
        ["/usr/bin/python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    wheels = CACHE / "wheels"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    _run(FOLDER / "wheels.sh", WHEELS=str(wheels), PYTHON_VERSION=version, PATH=path)
    return wheels


def _services(folder: Path) -> Path:
    """The build context of the stand-in: programs, their files and libraries, as Debian's packages have them here."""
    programs = newest_bin()
    for own in (programs, programs.with_name("lib")):
        shutil.copytree(own, folder / own.relative_to("/"), ignore=shutil.ignore_patterns("bitcode", "llvmjit*"))
    share = Path("/usr/share/postgresql", programs.parent.name)
    shutil.copytree(share, folder / share.relative_to("/"))
    linked = _run("ldd", programs / "postgres", programs / "initdb")
    for library in sorted(set(re.findall(r"=> (/\S+)", linked))):
        target = folder / "usr" / "lib" / library.removeprefix("/usr").removeprefix("/lib/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, target)
    (folder / "usr" / "bin").mkdir()
    shutil.copy("/usr/bin/prometheus", folder / "usr" / "bin")
    shutil.copy(HERE / "entrypoint.sh", folder)
    return folder


def _run(*argv: str | Path, **variables: str) -> str:
    done = subprocess.run(
        argv,
        env={**os.environ, "TMPDIR": where(), **variables},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, f"{argv}: {done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout
