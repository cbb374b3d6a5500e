"""Every check of `dnsvip demo` holds on real packets, and the demo cleans up."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dnsvip.demo import privilege
from dnsvip.demo.acts import acts_of
from tests.long import LONG
from tests.network.demo_page import look_at_page

pytestmark = pytest.mark.network

OPTIONS = ("--json", "--keep")
AS_WE_ARE = (sys.executable, "-m", "dnsvip", "demo", *OPTIONS)
WITHOUT_ROOT = (
    sys.executable,
    "-c",
    "import sys; from dnsvip.cli import main; from dnsvip.demo import privilege; "
    f"privilege.AS_ROOT = ('false',); main(['demo', *{OPTIONS}, *sys.argv[1:]])",
)
"""The second run has no right to create namespaces and uses a user namespace; it measures, and makes a page."""
IN_THE_KERNEL = (*AS_WE_ARE, "--xdp")
DEMOS = {"without root": WITHOUT_ROOT, "in the kernel": IN_THE_KERNEL} | ({"as we are": AS_WE_ARE} if LONG else {})
"""As root in user space it differs from these two by nothing that one of them has not."""
MARK = "DNSVIP_DEMO_TEST"
README = Path(__file__).parents[2] / "README.md"
SCREEN = 36
"""Rows of the last table that fit on one screen with its title and the verdict."""


@contextmanager
def kept_demo(demo: Sequence[str], mark: str) -> Iterator[tuple[dict[str, Any], subprocess.Popen[str]]]:
    """A demo that has printed its document and waits; it gets its Enter at the end."""
    environment = {**os.environ, MARK: mark}
    with subprocess.Popen(demo, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        lines: list[str] = []
        while (line := process.stdout.readline()) not in ("}\n", ""):
            lines.append(line)
        try:
            yield json.loads("".join([*lines, line])), process
        finally:
            process.communicate("\n", timeout=30)


def _marked(mark: str) -> list[str]:
    """Command lines of live processes that inherited the mark."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text())
        except OSError:
            continue  # has exited
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("tun")
@pytest.mark.parametrize("demo", [pytest.param(DEMOS[name], id=name) for name in DEMOS])
def test_everything_shown_holds_and_nothing_stays(
    demo: Sequence[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every check of every act runs and holds; after Enter no process, namespace or file is left but the page, which is
    whole in a browser."""
    if demo is WITHOUT_ROOT:
        monkeypatch.setattr(privilege, "AS_ROOT", ("false",))
        if reason := privilege.missing():
            pytest.skip(reason)
    if demo is IN_THE_KERNEL and os.geteuid() != 0:
        pytest.skip("loading kernel programs needs root")
    mark, page, measured = secrets.token_hex(8), tmp_path / "report.html", demo is WITHOUT_ROOT
    with kept_demo([*demo, *(["--html", str(page)] if measured else [])], mark) as (document, process):
        failed = [check for act in document["acts"] for check in act["checks"] if not check["held"]]
        failures = {act["name"]: act["failure"] for act in document["acts"] if act["failure"]}
        assert not failed
        assert not failures
        assert [act["name"] for act in document["acts"]] == [play.__name__ for play in acts_of(measured=measured)]
        assert all(act["checks"] for act in document["acts"])
        assert document["held"] is True
        number = sum(len(act["checks"]) for act in document["acts"])
        assert number <= SCREEN
        assert f"\n{number} of {number} checks held in " in README.read_text()
        if measured:
            look_at_page(page, document)
        look = [f"{document['folder']}/enter", "client-gold", "curl", "-s", "http://www.example.test/"]
        assert subprocess.run(look, capture_output=True, text=True, check=True).stdout.startswith("fast-")
        assert _marked(mark)
    assert process.returncode == 0
    assert _marked(mark) == []
    assert not Path(document["folder"]).exists()
    names = os.listdir("/run/netns") if Path("/run/netns").exists() else []
    assert not [name for name in names if name.startswith(f"dnsvip-{process.pid}-")]


@pytest.mark.usefixtures("tun")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_stays_of_an_interrupted_demo(number: signal.Signals) -> None:
    """Interrupted in the middle of an act, the demo removes everything and does not exit 0."""
    mark = secrets.token_hex(8)
    hears = ("env", "--default-signal=INT")  # a shell's background jobs, such as these tests, ignore Ctrl-C
    command = (*hears, sys.executable, "-m", "dnsvip", "demo")
    environment = {**os.environ, MARK: mark}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as demo:
        assert demo.stdout is not None
        while "dispatch node.toml &" not in (line := demo.stdout.readline()):
            assert line
        demo.send_signal(number)
        demo.communicate(timeout=30)
    assert demo.returncode != 0
    assert _marked(mark) == []
    names = os.listdir("/run/netns") if Path("/run/netns").exists() else []
    assert not [name for name in names if name.startswith(f"dnsvip-{demo.pid}-")]
