"""The Debian package (`make deb`): installed on a copy-on-write copy of this system, used, upgraded, purged there."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SETUP = """
set -e
mount -t tmpfs -o size=2g tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o lowerdir=/,upperdir="$1/upper",workdir="$1/work" "$1/root"
mount -t proc proc "$1/root/proc"
mount --rbind /dev "$1/root/dev"
mount -t tmpfs tmpfs "$1/root/run"
ip link set lo up
echo ready
exec sleep 600
"""
SERVE = """
set -e
cd /etc/dnsvip
install -m 640 -g dnsvip /usr/share/doc/dnsvip/examples/site.toml /usr/share/doc/dnsvip/examples/example.test.zone .
cat > node.toml <<END
database = "sqlite:////var/lib/dnsvip/dnsvip.db"
key_file = "/var/lib/dnsvip/dnsvip.key"
state_dir = "/var/lib/dnsvip/state"
[[dns.listen]]
address = "127.0.0.1:5353"
[admin]
listen = "127.0.0.1:8053"
END
chgrp dnsvip node.toml
runuser -u dnsvip -- dnsvip apply site.toml --config node.toml
runuser -u dnsvip -- dnsvip serve node.toml --token-file /var/lib/dnsvip/token > /tmp/serve.log 2>&1 &
for _ in $(seq 200); do
    test "$(dig @127.0.0.1 -p 5353 +short +timeout=1 +tries=1 AAAA www.example.test)" = 2001:db8:a:1::1 && exit 0
    sleep 0.2
done
cat /tmp/serve.log
exit 1
"""

pytestmark = [
    pytest.mark.release,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="mounts, and installs a package: needs root"),
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
def system(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Runs a command as root on a copy of this system, with namespaces of its own, and returns what it prints."""
    apart = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"]
    argv = [*apart, "bash", "-c", SETUP, "setup", str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        (inside,) = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()

        def run(*argv: str) -> str:
            enter = ["nsenter", "--target", inside, "--mount", "--net", "--pid", "chroot", str(tmp_path / "root")]
            done = subprocess.run(
                [*enter, *argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=120
            )
            assert done.returncode == 0, f"{argv}: {done.stdout}"
            return done.stdout

        try:
            yield run
        finally:
            holder.kill()


def test_install_use_remove(package: Path, system: Callable[..., str]) -> None:
    """The package installs its program, user, folders, units, manual and completion; a node runs as that user, through
    an upgrade; what is left after a purge is what the node wrote."""
    said = system("dpkg", "--install", str(package))
    assert "Failed" not in said, said
    assert system("dnsvip", "--version").startswith("dnsvip, version ")
    folders = system("stat", "--format=%U %a", "/var/lib/dnsvip", "/etc/dnsvip")
    assert folders == "dnsvip 700\nroot 750\n"
    units = [f"dnsvip-{name}.service" for name in ("serve", "dispatch", "decoder")]
    system("systemd-analyze", "verify", *units)
    assert "--emergency" in system("man", "dnsvip-keys")
    assert "_dnsvip" in system("cat", "/usr/share/bash-completion/completions/dnsvip")
    system("bash", "-c", SERVE)
    system("dpkg", "--install", str(package))
    assert system("dig", "@127.0.0.1", "-p", "5353", "+short", "AAAA", "www.example.test") == "2001:db8:a:1::1\n"
    system("pkill", "-TERM", "-u", "dnsvip")
    system("dpkg", "--purge", "dnsvip")
    assert system("bash", "-c", "ls -d /usr/lib/dnsvip /usr/bin/dnsvip /usr/share/doc/dnsvip 2>/dev/null; true") == ""
    assert "dnsvip.key" in system("ls", "/var/lib/dnsvip")


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
