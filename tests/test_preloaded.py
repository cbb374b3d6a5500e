"""A preloaded `dnsvip` is a process as one that the installed script starts."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import preloaded
from tests.node.serving import Node, node, within

ALIKE = ("Umask", "Uid", "Gid", "SigBlk", "SigIgn", "SigCgt", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp")


KILLED = """
import os
from pathlib import Path
from tests import preloaded
with open(os.devnull, "wb") as nothing:
    print(preloaded.start("serve", "node.toml", folder=Path("FOLDER"), out=nothing, error=nothing).pid, flush=True)
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Node]:
    with node(tmp_path) as made:
        made.apply()
        yield made


def facts(made: Node) -> dict[str, object]:
    """What the system says about a process, and what it ends with."""
    assert made.process
    proc = Path(f"/proc/{made.process.pid}")
    status = dict(re.findall(r"^(\w+):\t(.*)$", (proc / "status").read_text(), re.MULTILINE))
    seen = {key: status[key] for key in ALIKE} | {"limits": (proc / "limits").read_text()}
    seen |= {name: os.readlink(proc / name) for name in ("cwd", "fd/0", "fd/1", "fd/2", "ns/net", "ns/mnt")}
    return seen | {"exit": made.stop()}


def test_it_is_the_same(made: Node) -> None:
    """Rights, limits, signals, folder, files, namespaces, and the status that it ends with."""
    made.start("--token-file", "token")
    forked = facts(made)
    with (made.folder / "log").open("wb") as log, (made.folder / "out").open("wb") as out:
        argv = [preloaded.DNSVIP, "serve", "node.toml"]
        made.process = subprocess.Popen(argv, cwd=made.folder, stdin=subprocess.DEVNULL, stdout=out, stderr=log)
    within(60, lambda: '"event": "ready"' in made.log)
    assert forked == facts(made)


def test_what_it_says(made: Node) -> None:
    """Its arguments, environment, output and status are those of the script, not those that the server began with."""
    for argv in (("status",), ("apply", "nowhere.toml", "--config", "node.toml"), ("--version",), ("nothing",)):
        env = {**os.environ, "DNSVIP_API": "127.0.0.1:1", "DNSVIP_TOKEN": "token"}
        script = subprocess.run(
            [preloaded.DNSVIP, *argv], cwd=made.folder, env=env, capture_output=True, text=True, check=False
        )
        forked = preloaded.run(*argv, folder=made.folder, env=env)
        assert (forked.returncode, forked.stdout, forked.stderr) == (script.returncode, script.stdout, script.stderr)


def test_it_is_killed(made: Node) -> None:
    """The status of one that a signal ends is the signal's number, negative, however often it is asked for."""
    made.start("--token-file", "token", new_session=True)
    process = made.process
    assert process
    assert (process.poll(), os.getsid(process.pid)) == (None, process.pid)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    process.kill()
    assert [process.wait(30), process.poll(), process.wait()] == [-signal.SIGKILL] * 3
    process.kill()  # nobody


def test_it_ends_with_the_tests(made: Node) -> None:
    """Where the tests are killed, nobody is left to stop it."""
    argv = [sys.executable, "-c", KILLED.replace("FOLDER", str(made.folder))]
    done = subprocess.run(argv, cwd=preloaded.ROOT, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    within(60, lambda: not Path(f"/proc/{int(done.stdout)}").exists())
