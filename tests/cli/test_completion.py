"""Completion as the shells do it: bash runs our script and is asked what it would offer."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from tests.node.serving import DNSVIP, Node, node
from tests.ports import free_port

ASK = """
eval "$SCRIPT"
COMP_WORDS=(dnsvip "$@")
COMP_CWORD=$#
_dnsvip_completion dnsvip
printf '%s\\n' "${COMPREPLY[@]}"
"""


@cache
def script() -> str:
    """What `dnsvip completion bash` prints."""
    return subprocess.run([DNSVIP, "completion", "bash"], capture_output=True, text=True, check=True).stdout


def complete(*words: str, env: Mapping[str, str] | None = None) -> list[str]:
    """What bash offers for the last of the words."""
    done = subprocess.run(
        ["bash", "-c", ASK, "bash", *words],
        env={**os.environ, "SCRIPT": script(), "PATH": f"{DNSVIP.parent}:{os.environ['PATH']}", **(env or {})},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return [line for line in done.stdout.split() if line]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that runs, to name things of its site."""
    with node(tmp_path_factory.mktemp("running")) as server:
        server.apply()
        server.start("--token-file", "token")
        yield server


def reach(server: Node) -> dict[str, str]:
    return {"DNSVIP_API": f"127.0.0.1:{server.api}", "DNSVIP_TOKEN": server.token}


def test_commands_and_options() -> None:
    """Nouns, verbs and options are completed without any API."""
    assert complete("cli") == ["clients", "client-ca", "client"]
    assert set(complete("keys", "")) >= {"rotate", "list"}
    assert "--quiet" in complete("doctor", "--")


def test_keys_and_values(running: Node) -> None:
    """`add` and `set` complete the keys of their kind, then the choices or names that a key takes."""
    assert complete("tiers", "set", "gold", "rate.") == ["rate.new_flows=", "rate.burst=", "rate.over=", "rate.per="]
    assert complete("tiers", "set", "gold", "action", "=") == ["forward", "drop"]
    assert complete("tiers", "set", "gold", "action", "=", "d") == ["drop"]
    assert complete("tiers", "set", "gold", "action", "=", "drop", "dscp") == ["dscp="]
    assert complete("tiers", "set", "gold", "action", "=", "drop", "unproven", "=", "r") == ["reject"]
    assert complete("clients", "set", "acme", "proof.required", "=") == ["true", "false"]
    assert complete("pools", "add", "new", "fallback", "=", "f", env=reach(running)) == ["fast"]
    assert "trust_ecs_from=" in complete("classify", "set", "")
    assert complete("servers", "set", "slow-1", "w") == ["weight="]


def test_names_of_the_site(running: Node) -> None:
    """Clients, tiers, clusters and servers are named by the API; one that is typed whole is offered too."""
    env = reach(running)
    assert complete("clients", "show", "", env=env) == ["acme", "newsreader"]
    assert complete("clients", "move", "acme", "", env=env) == ["blocked", "gold", "standard"]
    assert complete("keys", "rotate", "w", env=env) == ["web"]
    assert complete("servers", "drain", "slow/", env=env) == ["slow/slow-1", "slow/slow-2"]
    assert complete("servers", "drain", "slow/slow-1", "fast/", env=env) == ["fast/fast-1"]
    assert complete("clients", "show", "acme", env=env) == ["acme"]
    assert complete("clients", "add", "a", env=env) == []
    assert complete("tokens", "create", "a", "--tiers", "go", env=env) == ["gold"]
    assert complete("tokens", "set", "a", "--tsig", "", env=env) == ["acme-key"]


def test_token_file(running: Node) -> None:
    """The options of the line that is being typed are used."""
    words = ("tiers", "show", "--api", f"127.0.0.1:{running.api}", "--token-file", str(running.folder / "token"), "go")
    assert complete(*words, env={"DNSVIP_TOKEN": ""}) == ["gold"]


def test_no_api_no_names() -> None:
    """Without an API, or without a token, nothing is offered, and soon."""
    env = {"DNSVIP_API": f"127.0.0.1:{free_port()}", "DNSVIP_TOKEN": "dnsvip_none"}
    start = time.monotonic()
    assert complete("clients", "show", "", env=env) == []
    assert time.monotonic() - start < 20
    assert complete("clients", "show", "", env={"DNSVIP_TOKEN": ""}) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_are_sound(shell: str, tmp_path: Path) -> None:
    """Each shell parses the script made for it."""
    script = subprocess.run([DNSVIP, "completion", shell], capture_output=True, text=True, check=True).stdout
    assert "_DNSVIP_COMPLETE" in script
    (tmp_path / "script").write_text(script)
    done = subprocess.run([shell, "-n", tmp_path / "script"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_fish_completes() -> None:
    """fish, asked what follows, names our commands."""
    script = f"{DNSVIP} completion fish | source; complete -C 'dnsvip dec'"
    env = {**os.environ, "PATH": f"{DNSVIP.parent}:{os.environ['PATH']}"}
    done = subprocess.run(["fish", "-c", script], env=env, capture_output=True, text=True, check=True)
    assert "decode" in done.stdout
