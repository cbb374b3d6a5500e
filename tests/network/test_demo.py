"""`dnsvip demo` holds all it shows, on real packets, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dnsvip.demo.acts import ACTS

pytestmark = pytest.mark.network

DEMO = (sys.executable, "-m", "dnsvip", "demo", "--json", "--keep")
MARK = "DNSVIP_DEMO_TEST"


@contextmanager
def kept_demo(mark: str) -> Iterator[tuple[dict[str, Any], subprocess.Popen[str]]]:
    """A demo that has told its document and waits; it gets its Enter at the end."""
    environment = {**os.environ, MARK: mark}
    with subprocess.Popen(DEMO, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        lines: list[str] = []
        while (line := process.stdout.readline()) not in ("}\n", ""):
            lines.append(line)
        try:
            yield json.loads("".join([*lines, line])), process
        finally:
            process.communicate("\n", timeout=30)


def _marked(mark: str) -> list[str]:
    """Command lines of living processes that inherited the mark."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text())
        except OSError:
            continue  # ended meanwhile
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("tun")
def test_everything_shown_holds_and_nothing_stays() -> None:
    """Every check of every act is decided and held; after Enter no process, namespace or file is left."""
    mark = secrets.token_hex(8)
    with kept_demo(mark) as (document, process):
        failed = [check for act in document["acts"] for check in act["checks"] if not check["held"]]
        failures = {act["name"]: act["failure"] for act in document["acts"] if act["failure"]}
        assert not failed
        assert not failures
        assert [act["name"] for act in document["acts"]] == [play.__name__ for play in ACTS]
        assert all(act["checks"] for act in document["acts"])
        assert document["held"] is True
        look = [f"{document['folder']}/enter", "client-gold", "curl", "-s", "http://www.example.test/"]
        assert subprocess.run(look, capture_output=True, text=True, check=True).stdout.startswith("fast-")
        assert _marked(mark)
    assert process.returncode == 0
    assert _marked(mark) == []
    assert not Path(document["folder"]).exists()
    names = os.listdir("/run/netns") if Path("/run/netns").exists() else []
    assert not [name for name in names if name.startswith(f"dnsvip-{process.pid}-")]
