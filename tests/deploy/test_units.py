"""The systemd units are valid, as confined as documented, and sufficient for the programs.

No systemd runs these tests, so they apply its limits by hand: capabilities by setpriv, the ban on
writable and executable memory by prctl; the system calls that the programs made are compared with the units' filters.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dnsvip.demo.netns import Host, World
from tests.network.dispatching import apply
from tests.network.test_dispatch import SITE
from tests.node.serving import within

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "deploy" / "systemd"
PROGRAM = Path(sys.executable).with_name("dnsvip")

EXPOSURE = {"serve": 1.5, "dispatch": 2.4, "decoder": 1.2}
"""The highest allowed score of `systemd-analyze security`, 0 (confined) to 10, as stated in deploy/README.md."""

AS_ROOT = {"fchown", "chown"}
"""System calls that SQLite makes only as root, as in these tests and not under the units."""

NODE = """\
database = "sqlite:///site.db"
[[dns.listen]]
address = "[2001:db8:d::2]:53"
[dispatch]
"""

DECODER = """\
[decoder]
clusters = ["web"]
api = "http://127.0.0.1:8053"
token_file = "token"
http = "decoder-http.sock"
"""

MDWE = """
import ctypes, os, sys
assert ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) == 0
os.execvp(sys.argv[1], sys.argv[1:])
"""
"""PR_SET_MDWE (prctl(2)), which MemoryDenyWriteExecute= sets where the kernel has it."""


@pytest.fixture(params=["serve", "dispatch", "decoder"])
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A unit that runs the program under test."""
    text = (UNITS / f"dnsvip-{request.param}.service").read_text()
    assert "ExecStart=/opt/dnsvip/bin/dnsvip " in text
    file = tmp_path / f"dnsvip-{request.param}.service"
    file.write_text(text.replace("/opt/dnsvip/bin/dnsvip", str(PROGRAM)))
    return file


def setting(unit: str, key: str) -> list[str]:
    """All words of a setting, in line order."""
    text = (UNITS / f"dnsvip-{unit}.service").read_text()
    return [word for line in re.findall(rf"^{key}=(.*)$", text, re.MULTILINE) for word in line.split()]


def test_units_are_sound(unit: Path) -> None:
    """`systemd-analyze verify` reports nothing."""
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("unit", ["serve"], indirect=True)
def test_the_drop_in_for_announcing(unit: Path) -> None:
    """`systemd-analyze verify` reports nothing of the DNS unit with it either."""
    folder = unit.with_name(f"{unit.name}.d")
    folder.mkdir()
    (folder / "announce.conf").write_text((ROOT / "deploy" / "bgp" / "serve.conf").read_text())
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_exposure(unit: Path) -> None:
    """`systemd-analyze security` gives the documented figure or a better one."""
    name = unit.stem.removeprefix("dnsvip-")
    argv = ["systemd-analyze", "security", "--offline=true", "--no-pager", unit]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    match = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert match, done.stdout + done.stderr
    assert float(match[1]) <= EXPOSURE[name]
    assert f"{name} {EXPOSURE[name]} of 10" in " ".join((ROOT / "deploy" / "README.md").read_text().split())


@pytest.mark.parametrize("unit_name", ["serve", "dispatch", "decoder"])
def test_bounds(unit_name: str) -> None:
    """No core dump, bounded tasks and memory as the page on sizing says, and a state folder for the user alone."""
    assert setting(unit_name, "LimitCORE") == ["0"]
    (tasks,) = setting(unit_name, "TasksMax")
    page = " ".join((ROOT / "deploy" / "README.md").read_text().split())
    assert f"{tasks} for {unit_name}" in page
    (memory,) = setting(unit_name, "MemoryMax")
    assert memory == {"serve": "75%", "dispatch": "75%", "decoder": "25%"}[unit_name]
    assert f"`MemoryMax={memory}`" in page
    assert setting(unit_name, "MemorySwapMax") == ["0"]
    assert setting(unit_name, "StateDirectoryMode") == ["0700"]
    assert setting(unit_name, "UMask") == ["0077"]


def allowed(unit: str) -> set[str]:
    """The system calls that a unit's filters allow."""
    calls: set[str] = set()
    text = (UNITS / f"dnsvip-{unit}.service").read_text()
    for line in re.findall(r"^SystemCallFilter=(.*)$", text, re.MULTILINE):
        names = {call for word in line.removeprefix("~").split() for call in _set(word)}
        calls = calls - names if line.startswith("~") else calls | names
    return calls | _set("@default")


def _set(name: str) -> set[str]:
    if not name.startswith("@"):
        return {name}
    listed = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True)
    words = {line.strip() for line in listed.stdout.splitlines()[1:] if line.strip() and "#" not in line}
    return {call for word in words for call in (_set(word) if word.startswith("@") else {word})}


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A dispatcher's host with a site."""
    if reason := World.available(tun=True):
        pytest.skip(reason)
    (tmp_path / "node.toml").write_text(NODE)
    (tmp_path / "decoder.toml").write_text(DECODER)
    (tmp_path / "token").write_text("no-API-is-asked")
    apply(tmp_path, SITE.replace("FAST1", "1"))
    (tmp_path / "bpffs").mkdir()
    with World() as world:
        if os.geteuid() == 0:
            subprocess.run(["mount", "-t", "bpf", "bpf", tmp_path / "bpffs"], check=True)
            world.at_end(lambda: subprocess.run(["umount", tmp_path / "bpffs"], check=True))
        node, other = world.host("node"), world.host("other")
        world.link(node, other, a_addrs=["2001:db8:d::2/64", "fd00:10::2/64"], b_addrs=["2001:db8:d::9/64"])
        node.forwarding()
        yield node


@pytest.mark.network
@pytest.mark.parametrize(
    ("command", "mode"),
    [("serve", ""), ("serve", "announce"), ("dispatch", "user"), ("dispatch", "xdp"), ("decoder", "")],
)
def test_the_limits_are_wide_enough(host: Host, tmp_path: Path, command: str, mode: str) -> None:
    """The program gets ready and exits cleanly with the unit's capabilities, filters and memory rules."""
    if mode == "xdp":
        _prepare_xdp(tmp_path)
    words = setting(command, "CapabilityBoundingSet")
    if mode == "announce":
        (tmp_path / "node.toml").write_text(f'{NODE}[announce]\nprefixes = ["2001:db8:53::/48"]\n')
        words += re.findall(
            r"^CapabilityBoundingSet=(.*)$", (ROOT / "deploy" / "bgp" / "serve.conf").read_text(), re.MULTILINE
        )
    names = [word.removeprefix("CAP_").lower() for word in words]
    caps = ",".join(["-all", *(f"+{name}" for name in names)])
    trace, notify = tmp_path / "trace", tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(notify))
        manager.settimeout(60)
        limits = ("setpriv", "--no-new-privs", f"--bounding-set={caps}", f"--inh-caps={caps}")
        strace = ("strace", "-f", "-c", "-qq", "-o", trace)
        memory = (sys.executable, "-c", MDWE) if setting(command, "MemoryDenyWriteExecute") else ()
        file = "decoder.toml" if command == "decoder" else "node.toml"
        argv = (*limits, *strace, *memory, PROGRAM, command, tmp_path / file)
        process = host.start(*argv, log=tmp_path / "log", env={"NOTIFY_SOCKET": str(notify)})
        assert manager.recv(4096).startswith(b"READY=1"), (tmp_path / "log").read_text()
        pid = _traced(process.pid)
        status = Path(f"/proc/{pid}/status").read_text()
        held = int(re.findall(r"^CapEff:\s*(\w+)", status, re.MULTILINE)[0], 16)
        assert held.bit_count() == len(names)
        if command == "serve":
            done = host.run("dig", "@2001:db8:d::2", "+short", "+time=5", "CH", "TXT", "id.server", check=False)
            assert "timed out" not in done.stdout
        if mode == "announce":
            within(10, lambda: "dev dnsvip-dns" in host.ip("-6", "route", "show", "proto", "86"))
        os.kill(pid, 15)
        assert process.wait(30) == 0, (tmp_path / "log").read_text()
    calls = {line.split()[-1] for line in trace.read_text().splitlines() if re.match(r"\s+[\d.]+ ", line)} - {"total"}
    assert len(calls) > 20
    assert calls - allowed(command) - AS_ROOT == set()


def _prepare_xdp(folder: Path) -> None:
    """Load the kernel program with its maps in a BPF file system, as the unit's user sees it."""
    if os.geteuid() != 0:
        pytest.skip("loading kernel programs needs root")
    text = NODE + f'mode = "xdp"\ninterface = "other"\ngeneric = true\npins = "{folder}/bpffs/node"\n'
    (folder / "node.toml").write_text(text)


def _traced(pid: int) -> int:
    """The program under setpriv and strace: the last in the chain of child processes."""
    for _ in range(10):
        children = [
            int(child) for file in Path(f"/proc/{pid}/task").glob("*/children") for child in file.read_text().split()
        ]
        if not children or b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
        pid = children[0]
    return pid


def test_sysusers_and_tmpfiles(tmp_path: Path) -> None:
    """systemd creates the user and the folders under another root."""
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    for name in ("passwd", "group"):
        (root / "etc" / name).write_text("root:x:0:0::/:/bin/sh\n" if name == "passwd" else "root:x:0:\n")
    subprocess.run(["systemd-sysusers", f"--root={root}", UNITS / "dnsvip.sysusers"], check=True, capture_output=True)
    assert "dnsvip:" in (root / "etc" / "passwd").read_text()
    subprocess.run(
        ["systemd-tmpfiles", f"--root={root}", "--create", UNITS / "dnsvip.tmpfiles"], check=True, capture_output=True
    )
    within(5, (root / "var" / "lib" / "dnsvip").is_dir)
    assert (root / "var" / "lib" / "dnsvip").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("file", sorted((ROOT / "deploy" / "sysctl").glob("*.conf")), ids=lambda path: path.stem)
def test_sysctls_exist(file: Path) -> None:
    """Every sysctl in the files exists in this kernel."""
    keys = re.findall(r"^([\w.]+) = \d+$", file.read_text(), re.MULTILINE)
    assert keys
    assert [key for key in keys if not Path("/proc/sys", *key.split(".")).exists()] == []
