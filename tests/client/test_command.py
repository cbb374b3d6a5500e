"""Running programs: exit status, signals, environment, and the private hosts file."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv6Address
from pathlib import Path
from tempfile import NamedTemporaryFile

import dns.message
import dns.rdatatype
import pytest

from dnsvip.address.proof import Bind
from dnsvip.client import Agent
from dnsvip.client.io.command import CannotRun, run_with_hosts, run_with_proxy
from dnsvip.client.io.enter import enter
from dnsvip.client.io.hosts import HostsFile
from dnsvip.errors import ClientError
from tests.client.responder import Responder, reply
from tests.client.test_agent import CLUSTER, ISSUED, NAME, enrolment, honest
from tests.client.webserver import Web

NOBODY = 65534
OLD = "old.example.test"
EXEC = (sys.executable, "-m", "dnsvip", "client", "exec")


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 128 + 15)])
async def test_exit_status(script: str, status: int) -> None:
    """The exit status is the command's; after a signal it is 128 plus the signal number, as in a shell."""
    assert await run_with_proxy(Agent(), ["sh", "-c", script]) == status


@pytest.mark.parametrize(("program", "code"), [("no-such-program", 127), ("/etc/passwd", 126)])
async def test_cannot_run(program: str, code: int) -> None:
    """A missing or non-executable program gives a shell's exit codes."""
    with pytest.raises(CannotRun) as error:
        await run_with_proxy(Agent(), [program])
    assert error.value.exit_code == code
    assert program in str(error.value)


def test_environment(tmp_path: Path) -> None:
    """The environment points the command at the proxy and is otherwise unchanged."""
    words = [*EXEC, "--", sys.executable, "-c", "import os, json; print(json.dumps(dict(os.environ)))"]
    surroundings = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path), "KEPT": "yes", "http_proxy": "http://192.0.2.1:1"}
    done = subprocess.run(words, env=surroundings, capture_output=True, text=True, check=True)
    document = json.loads(done.stdout)
    assert document["KEPT"] == "yes"
    assert document["http_proxy"].startswith("http://dnsvip:")
    assert "@127.0.0.1:" in document["http_proxy"]
    assert document["all_proxy"].startswith("socks5h://dnsvip:")


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """`client exec` of a shell that prints each signal, in its own session."""
    script = "; ".join(f"trap 'echo got {name}' {name}" for name in ("TERM", "HUP", "INT", "USR1"))
    script += "; echo ready; i=0; while [ $i -lt 100 ]; do sleep 0.1; i=$((i+1)); done"
    process = subprocess.Popen(
        [*EXEC, "--", "sh", "-c", script],
        env={**os.environ, "XDG_CONFIG_HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    yield process
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdout
    process.stdout.close()


def test_signals_are_forwarded(waiting: subprocess.Popen[str]) -> None:
    """Signals sent to the agent alone reach the command and do not stop the agent first."""
    assert waiting.stdout
    assert waiting.stdout.readline() == "ready\n"
    for name in ("TERM", "HUP", "INT", "USR1"):
        os.kill(waiting.pid, signal.Signals[f"SIG{name}"])
        assert waiting.stdout.readline() == f"got {name}\n"
    assert waiting.poll() is None


def test_ctrl_c_arrives_once(tmp_path: Path) -> None:
    """Ctrl-C on a terminal reaches the command once: from the terminal, not from the agent too."""
    count = "trap 'n=$((n+1))' INT; sleep 1 & echo ready; while kill -0 $! 2>/dev/null; do wait; done; echo got $n"
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["XDG_CONFIG_HOME"] = str(tmp_path)
        os.execv(EXEC[0], [*EXEC, "--", "sh", "-c", count])  # noqa: S606 - in the forked child
    seen = b""
    with suppress(OSError):  # EIO: the other end closed
        while chunk := os.read(terminal, 1000):
            seen += chunk
            if b"ready" in chunk:
                os.write(terminal, b"\x03")
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert b"got 1\r\n" in seen
    assert status == 0


async def test_hosts_file_holds_proven_addresses() -> None:
    """With --hosts the system's resolver gives the command each service's proven address."""
    script = f"import socket; print(socket.getaddrinfo('{NAME}', 80, socket.AF_INET6)[0][4][0])"
    async with Responder(honest) as server:
        enrolled = enrolment(server.endpoint, bind=Bind.NONE)
        agent = Agent(enrolled)
        expected = await agent.resolve(NAME)
        async with HostsFile(Agent(enrolled)) as hosts:
            process = await asyncio.create_subprocess_exec(
                *hosts.entrance, sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE
            )
            output, _ = await process.communicate()
            path = hosts._path
            assert path.read_text().count(NAME) == 1
    assert process.returncode == 0
    found = IPv6Address(output.decode().strip())
    assert found in CLUSTER.prefix
    assert found != ISSUED
    assert found == expected.address or time.time() > expected.valid_until
    assert not path.exists()
    assert NAME not in Path("/etc/hosts").read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, which needs root")
async def test_hosts_file_is_for_the_command_alone() -> None:
    """Another user of the machine cannot read the addresses; one that the command becomes reads its /etc/hosts."""
    async with Responder(honest) as server, HostsFile(Agent(enrolment(server.endpoint, bind=Bind.NONE))) as hosts:
        path = hosts._path
        assert path.parent.stat().st_mode & 0o777 == 0o700
        outside = await run("setpriv", "--reuid", str(NOBODY), "--clear-groups", "cat", str(path))
        inside = await run(*hosts.entrance, "setpriv", "--reuid", str(NOBODY), "--clear-groups", "cat", "/etc/hosts")
    assert (outside[0] != 0, outside[1]) == (True, "")
    assert (inside[0], NAME in inside[1]) == (0, True)
    assert not path.parent.exists()


async def run(*words: str) -> tuple[int | None, str]:
    """A program's exit status and output."""
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    return process.returncode, output.decode()


def ipv4_only(query: dns.message.Message, _: str) -> list[bytes]:
    """One name that has an IPv4 address and no other, beside those of `honest`."""
    if query.question[0].name.to_text() != f"{OLD}.":
        return honest(query, _)
    records = [f"{OLD}. 60 IN A 127.0.0.1"] if query.question[0].rdtype == dns.rdatatype.A else []
    return [reply(query, *records).to_wire()]


async def test_a_service_with_ipv4_only(certificate: Path) -> None:
    """The proxy connects to its IPv4 address, with TLS to its name, and the hosts file has it in a line as long as the
    others; names of a wildcard are left out."""
    web = await Web.start(certificate, "127.0.0.1")
    async with Responder(ipv4_only) as server:
        enrolled = replace(enrolment(server.endpoint, bind=Bind.NONE), services4=(OLD, "*.s.example.test"))
        assert enrolled.services == (NAME, OLD, "*.s.example.test")
        agent = Agent(enrolled)
        async with HostsFile(agent) as hosts:
            lines = [line for line in hosts._path.read_text().splitlines() if line.endswith(".example.test")]
        assert [line.split()[1] for line in lines] == [NAME, OLD]
        assert lines[1].split()[0] == "127.0.0.1"
        assert lines[0].index(NAME) == lines[1].index(OLD)
        curl = ("curl", "-s", "--cacert", str(certificate / "cert.pem"), "-k", f"https://{OLD}:{web.https}/x", "-o")
        with NamedTemporaryFile("r") as file:
            assert await run_with_proxy(agent, [*curl, file.name]) == 0
            seen = json.load(file)
    assert (seen["to"], seen["sni"]) == ("127.0.0.1", OLD)


async def test_hosts_file_follows_the_slots() -> None:
    """While the command runs, its hosts file is rewritten in place with the next slot's proof."""
    async with Responder(honest) as server:
        enrolled = enrolment(server.endpoint, bind=Bind.NONE)
        assert enrolled.clusters[0].proof
        fast = replace(enrolled, clusters=(replace(enrolled.clusters[0], slot_seconds=1),))
        async with HostsFile(Agent(fast)) as hosts:
            file = hosts._path.open()
            seen = set()
            for _ in range(40):
                file.seek(0)
                seen.add(file.readline())
                await asyncio.sleep(0.1)
            file.close()
    assert 3 <= len(seen) <= 5
    assert all(line.endswith(f" {NAME}\n") for line in seen)
    assert len({len(line) for line in seen}) == 1


@pytest.mark.parametrize(("bind", "single_use"), [(Bind.ADDRESS_PORT, False), (Bind.NONE, True)])
async def test_hosts_refused(bind: Bind, single_use: bool) -> None:
    """--hosts refuses per-connection proofs, which no file can hold."""
    with pytest.raises(ClientError, match="one connection each"):
        await run_with_hosts(Agent(enrolment("127.0.0.1:1", bind=bind, single_use=single_use)), ["true"])
    with pytest.raises(ClientError, match="needs an enrolment"):
        await run_with_hosts(Agent(), ["true"])


def test_unprivileged_hosts() -> None:
    """An unprivileged user gets the private hosts file too, keeps their uid, and nobody else sees it."""

    def become_nobody() -> None:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: as after an exec of their own
        enter(own.name, "/etc/hosts")

    user = NOBODY if os.geteuid() == 0 else os.geteuid()
    with NamedTemporaryFile("w", dir="/tmp") as own:
        own.write("2001:db8::77 private.example.test\n")
        own.flush()
        Path(own.name).chmod(0o644)
        done = subprocess.run(
            ["sh", "-c", "id -u; cat /etc/hosts"],
            preexec_fn=become_nobody,
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout == f"{user}\n2001:db8::77 private.example.test\n"
    assert "private.example.test" not in Path("/etc/hosts").read_text()
