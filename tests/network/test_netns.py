"""Hosts and links are real namespaces and interfaces, and all are removed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from dnsvip.demo import netns, privilege
from dnsvip.demo.netns import CommandFailed, Host, World

pytestmark = pytest.mark.network


def namespaces(world: World) -> set[str]:
    """Names of all namespaces in the folder used here."""
    listed = subprocess.run([*world.prefix, "ip", "netns"], capture_output=True, text=True, check=True).stdout
    return {line.split()[0] for line in listed.splitlines()}


def test_linked_hosts_reach_each_other_at_once(world: World) -> None:
    """Addresses of both families answer as soon as the link exists."""
    a, b = world.host("a"), world.host("b")
    world.link(a, b, a_addrs=["2001:db8::1/64", "192.0.2.1/24"], b_addrs=["2001:db8::2/64", "192.0.2.2/24"])
    a.run("ping", "-c1", "-W2", "2001:db8::2")
    b.run("ping", "-c1", "-W2", "192.0.2.1")


def test_router_forwards_between_segments(world: World) -> None:
    """Two hosts on a switch and one behind a router reach each other."""
    router, switch = world.host("router"), world.switch("switch")
    left, right, far = world.host("left"), world.host("right"), world.host("far")
    world.link(router, switch, a_addrs=["fd00:10::1/64"])
    world.link(left, switch, a_addrs=["fd00:10::2/64"])
    world.link(right, switch, a_addrs=["fd00:10::3/64"])
    world.link(far, router, a_addrs=["2001:db8::2/64"], b_addrs=["2001:db8::1/64"])
    router.forwarding()
    left.route("default", "via", "fd00:10::1")
    far.route("default", "via", "2001:db8::1")
    left.run("ping", "-c1", "-W2", "fd00:10::3")
    assert "ttl=63" in left.run("ping", "-c1", "-W2", "2001:db8::2").stdout


def test_link_takes_names_and_mtu(world: World) -> None:
    """Interfaces have the requested names, and the requested MTU at both ends."""
    a, b = world.host("a"), world.host("b")
    assert world.link(a, b, a_name="eth0", b_name="eth7", mtu=1400) == ("eth0", "eth7")
    assert "mtu 1400" in a.ip("link", "show", "eth0")
    assert "mtu 1400" in b.ip("link", "show", "eth7")


def test_a_host_has_its_own_etc(world: World) -> None:
    """Only a host's own programs see its resolv.conf."""
    requester, other = world.host("requester", etc={"resolv.conf": "nameserver 2001:db8::53\n"}), world.host("other")
    assert requester.run("cat", "/etc/resolv.conf").stdout == "nameserver 2001:db8::53\n"
    assert "2001:db8::53" not in other.run("cat", "/etc/resolv.conf").stdout


def test_failures_name_host_command_and_reason(world: World) -> None:
    """A failed or timed-out command reports the command, the host and the output."""
    a = world.host("a")
    with pytest.raises(CommandFailed, match=r"(?s)a\$ ls /nowhere\n.*No such file"):
        a.run("ls", "/nowhere")
    with pytest.raises(CommandFailed, match=r"still running after 0\.2 s"):
        a.run("sleep", "5", timeout=0.2)
    assert a.run("false", check=False).returncode == 1
    with pytest.raises(ValueError, match="already"):
        world.host("a")


def test_input_environment_and_logs_reach_programs(world: World, tmp_path: Path) -> None:
    """Programs get the given input and environment; a background one writes to its log and ends with `stop`."""
    a = world.host("a")
    assert a.run("cat", input="hello").stdout == "hello"
    script = 'echo "$WORD"; exec sleep 60'
    process = a.start("sh", "-c", script, log=tmp_path / "log", env={"WORD": "heard"})
    _wait_until(lambda: (tmp_path / "log").read_text() == "heard\n")
    assert netns.stop(process) == -signal.SIGTERM


def _pids(host: Host) -> list[str]:
    command = [*host.prefix, "ip", "netns", "pids", host.namespace]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    return listed.stdout.split()


def _wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_all_is_gone_after_an_exception(world: World) -> None:
    """Namespaces, files and programs with their children end with the block, whatever ends it."""
    fails = World()
    with suppress(ZeroDivisionError), fails:
        host = fails.host("a", etc={"hosts": ""})
        host.start("sleep", "60")
        host.start("sh", "-c", "sleep 61 & sleep 62 & wait")
        _wait_until(lambda: len(_pids(host)) == 4)
        pids = _pids(host)
        assert host.namespace in namespaces(fails)
        1 / 0  # noqa: B018
    assert host.namespace not in namespaces(world)
    assert host.etc is not None
    assert not host.etc.parent.exists()
    _wait_until(lambda: not any(Path("/proc", pid).exists() for pid in pids))


WORLD_THEN_SLEEP = """
import signal
import time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job's children ignore it
from dnsvip.demo.netns import World
with World() as world:
    host = world.host("a")
    print(host.namespace, flush=True)
    time.sleep(60)
"""


def _start_world() -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen([sys.executable, "-c", WORLD_THEN_SLEEP], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_all_is_gone_after_a_signal(world: World, number: signal.Signals) -> None:
    """A run ended by a signal removes its namespaces before it exits."""
    process, name = _start_world()
    assert name.startswith("dnsvip-")
    process.send_signal(number)
    assert process.wait(10) != 0
    assert name not in namespaces(world)


@pytest.mark.skipif(os.geteuid() != 0, reason="without root namespaces die with their run, there is nothing to sweep")
def test_sweep_removes_what_a_killed_run_left(world: World) -> None:
    """Sweeping removes the namespaces of a killed run and keeps those of live runs."""
    mine = world.host("mine")
    process, name = _start_world()
    process.kill()
    process.wait()
    assert name in namespaces(world)
    assert name in netns.sweep()
    assert name not in namespaces(world)
    assert mine.namespace in namespaces(world)


AS_NOBODY = """
import os, sys
from dnsvip.demo.netns import World
if os.geteuid() == 0:
    os.chdir("/"), os.setgroups([]), os.setgid(65534), os.setuid(65534)
if reason := World.available(tun=False):
    sys.exit(reason)
with World() as world:
    a, b = world.host("a", etc={"resolv.conf": "mine"}), world.host("b")
    world.link(a, b, a_addrs=["2001:db8::1/64"], b_addrs=["2001:db8::2/64"])
    b.start("sleep", "60")
    a.run("ping", "-c1", "-W2", "2001:db8::2")
    print(a.run("cat", "/etc/resolv.conf").stdout)
"""


def test_without_root_a_user_namespace_does() -> None:
    """An unprivileged user gets the same topology; where a sysctl forbids it, one line names it."""
    done = subprocess.run([sys.executable, "-c", AS_NOBODY], capture_output=True, text=True, check=False, timeout=60)
    if done.returncode != 0:
        assert "user namespaces, which" in done.stderr
        assert done.stderr.count("\n") == 1
    else:
        assert done.stdout.strip() == "mine"


def test_a_forbidden_user_namespace_names_the_sysctl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where user namespaces are forbidden, the error names the sysctl."""
    (tmp_path / "user").mkdir()
    (tmp_path / "user" / "max_user_namespaces").write_text("0\n")
    monkeypatch.setattr(privilege, "PROC_SYS", tmp_path)
    monkeypatch.setattr(privilege, "AS_ROOT", ("false",))
    monkeypatch.setattr(privilege, "AS_ANYBODY", ("false",))
    assert "sysctl user.max_user_namespaces=0" in (World.available() or "")


def test_an_unusable_tun_device_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without /dev/net/tun the error says how to create it."""
    monkeypatch.setattr(privilege, "TUN", tmp_path / "tun")
    assert "modprobe tun" in (World.available(tun=True) or "")
    assert World.available(tun=False) is None
