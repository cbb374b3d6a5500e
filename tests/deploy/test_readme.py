"""deploy/README.md, step by step: a real PostgreSQL, two nodes, the console in Chromium, a dispatcher, a server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dnsvip.demo.netns import World
from tests.test_docs import ROOT, isolated

PAGE = ROOT / "deploy" / "README.md"
STEP = re.compile(r"^```sh\n(.*?)^```$|^<!-- in a browser: (\w+) (\w+) -->$", re.MULTILINE | re.DOTALL)
SERVER = re.compile(r"^```sh on=server\n(.*?)^```$", re.MULTILINE | re.DOTALL)

PREPARE = """
set -euo pipefail
ip link set lo up
bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1)
as() { setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; }
as "$bin/initdb" --pgdata "$PGHOST/data" --username postgres --no-sync \\
  --auth-local trust --auth-host scram-sha-256 >/dev/null
as "$bin/pg_ctl" start --wait --pgdata "$PGHOST/data" --log "$PGHOST/log" --options \\
  "-c unix_socket_directories=$PGHOST -c listen_addresses=127.0.0.1 -c fsync=off" >/dev/null
trap 'kill $(jobs -p) 2>/dev/null || true; wait; as "$bin/pg_ctl" stop --pgdata "$PGHOST/data" --mode immediate' EXIT
set -x
"""

pytestmark = pytest.mark.network


@pytest.fixture
def socket_folder() -> Iterator[Path]:
    """A folder owned by PostgreSQL's user, with a short path."""
    if os.geteuid() != 0:
        pytest.skip("PostgreSQL's commands on the page are given as its own user, which takes root")
    folder = Path(tempfile.mkdtemp(prefix="dnsvip-walk-", dir="/tmp"))
    shutil.chown(folder, "postgres", "postgres")
    yield folder
    shutil.rmtree(folder)


@pytest.mark.timeout(240)
def test_the_page_from_top_to_bottom(tmp_path: Path, socket_folder: Path) -> None:
    """Every command of the page runs in order on a fresh database; browser steps run in a browser."""
    if reason := World.available(tun=True):
        pytest.skip(reason)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    browse = f"PYTHONPATH={ROOT} {sys.executable} -m tests.deploy.in_console http://127.0.0.1:8053/ token"
    found = STEP.findall(PAGE.read_text())
    steps = [block or f"{browse} {client} {tier}\n" for block, client, tier in found]
    assert [client for _, client, _ in found if client] == ["acme"]
    assert len(steps) > 10
    _run(PREPARE + "".join(steps), tmp_path, {"PGHOST": str(socket_folder)})


def test_a_server(tmp_path: Path) -> None:
    """The steps for a pool's server work on a separate host."""
    (block,) = SERVER.findall(PAGE.read_text())
    _run(f"set -euxo pipefail\nip link set lo up\n{block}", tmp_path, {})


def _run(script: str, folder: Path, more: dict[str, str]) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "HOME": str(folder), **more}
    done = subprocess.run(
        isolated("bash", "-c", script),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
