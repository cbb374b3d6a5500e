"""The Debian package (`make deb`): installed on a copy of this system, used, upgraded, purged there, by systemd."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.machine import SYSTEMD, Machine, machine

ROOT = Path(__file__).parents[2]
SET_UP = """
set -e
cd /etc/dnsvip
install -m 640 -g dnsvip /usr/share/doc/dnsvip/examples/site.toml /usr/share/doc/dnsvip/examples/example.test.zone .
cat > node.toml <<END
database = "sqlite:////var/lib/dnsvip/dnsvip.db"
key_file = "/var/lib/dnsvip/dnsvip.key"
state_dir = "/var/lib/dnsvip/state"
[[dns.listen]]
address = "127.0.0.1:53"
[admin]
listen = "127.0.0.1:8053"
[dispatch]
END
chgrp dnsvip node.toml
chmod 640 node.toml
runuser -u dnsvip -- dnsvip apply site.toml --config node.toml
systemctl enable --now dnsvip-serve dnsvip-dispatch || { journalctl --no-pager --output=cat | tail -20; exit 1; }
"""
UNITS = ("dnsvip-serve", "dnsvip-dispatch", "dnsvip-decoder")

pytestmark = [
    pytest.mark.release,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="mounts, and installs a package: needs root"),
    pytest.mark.skipif(not SYSTEMD.exists(), reason="needs systemd"),
]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of this tree."""
    folder = tmp_path_factory.mktemp("deb")
    argv = [ROOT / "deploy" / "deb.sh", folder]
    environment = {**os.environ, "TMPDIR": "/dev/shm"}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (deb,) = folder.glob("*.deb")
    return deb


@pytest.fixture
def system(tmp_path: Path) -> Iterator[Machine]:
    """A copy of this system, which systemd runs."""
    with machine(tmp_path) as made:
        yield made


def states(system: Machine) -> list[str]:
    """Whether each unit runs."""
    return system.tried("systemctl", "is-active", *UNITS)[1].split()


def answer(system: Machine) -> str:
    """What the node answers a stranger."""
    return system.tried("dig", "@127.0.0.1", "+short", "+timeout=2", "+tries=2", "AAAA", "www.example.test")[1].strip()


def test_install_use_remove(package: Path, system: Machine) -> None:
    """Under systemd: what is installed does not run by itself; units run as they are; what ran before an upgrade runs
    after it, with the new program; nothing runs after a removal; a purge leaves what the nodes wrote."""
    shutil.copy(package, system.root / "root" / "dnsvip.deb")
    install = ("dpkg", "--install", "/root/dnsvip.deb")
    said = system.run(*install)
    assert "Failed" not in said, said
    assert states(system) == ["inactive"] * 3
    assert system.run("dnsvip", "--version").startswith("dnsvip, version ")
    pins = "/sys/fs/bpf/dnsvip"
    folders = system.run("stat", "--format=%U %a", "/var/lib/dnsvip", "/etc/dnsvip", pins)
    assert folders == "dnsvip 700\nroot 750\ndnsvip 700\n"
    assert system.run("systemd-analyze", "verify", *(f"{unit}.service" for unit in UNITS)) == ""
    assert "--emergency" in system.run("man", "dnsvip-keys")
    assert "_dnsvip" in system.run("cat", "/usr/share/bash-completion/completions/dnsvip")

    system.run("bash", "-c", SET_UP)
    assert states(system) == ["active", "active", "inactive"], system.run("journalctl", "--no-pager", "-o", "cat")
    assert answer(system) == "2001:db8:a:1::1"
    before = system.run("systemctl", "show", "--value", "--property=MainPID", *UNITS).split()
    files = system.run("find", "/etc/dnsvip", "/var/lib/dnsvip", "-perm", "/007", "-printf", "%p %m\n")
    assert files == ""

    system.run(*install)
    assert states(system) == ["active", "active", "inactive"]
    after = system.run("systemctl", "show", "--value", "--property=MainPID", *UNITS).split()
    assert [number for number in before if number in after] == ["0"]
    assert answer(system) == "2001:db8:a:1::1"

    system.run("dpkg", "--remove", "dnsvip")
    assert states(system) == ["inactive"] * 3
    assert system.tried("pgrep", "-u", "dnsvip") == (1, "")
    system.run(*install)
    system.run("systemctl", "start", *UNITS[:2])
    assert answer(system) == "2001:db8:a:1::1"

    system.run("dpkg", "--purge", "dnsvip")
    assert states(system) == ["inactive"] * 3
    gone = "ls -d /usr/lib/dnsvip /usr/bin/dnsvip /usr/share/doc/dnsvip /etc/systemd/system/*/dnsvip* 2>/dev/null; true"
    assert system.run("bash", "-c", gone) == ""
    assert "dnsvip.key" in system.run("ls", "/var/lib/dnsvip")


def test_lintian_takes_it(package: Path) -> None:
    """As `make deb` asks it."""
    asked = ["lintian", "--fail-on", "error", package]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_it_holds(package: Path, tmp_path: Path) -> None:
    """No file names the folder of the build, every module has its byte code, and one Python fits."""
    subprocess.run(["dpkg-deb", "--extract", package, tmp_path], check=True)
    search = ["grep", "--recursive", "--files-with-matches", "debian/dnsvip/usr", tmp_path]
    assert subprocess.run(search, capture_output=True, text=True, check=False).stdout == ""
    (home,) = (tmp_path / "usr" / "lib" / "dnsvip" / "lib").glob("python3*/site-packages/dnsvip")
    modules = list(home.rglob("*.py"))
    assert modules
    assert [module for module in modules if not list((module.parent / "__pycache__").glob(f"{module.stem}.*"))] == []
    depends = subprocess.run(["dpkg-deb", "--field", package, "Depends"], capture_output=True, text=True, check=True)
    assert re.match(r"python3 \(>= 3\.(\d+)\), python3 \(<< 3\.\d+\)", depends.stdout)
