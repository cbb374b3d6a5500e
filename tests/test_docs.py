"""Every command and example in the docs works: the `sh` blocks of each page run, in order, in one shell, in a network
of their own; each `toml` block is a valid excerpt of a site or node file.

Commands of deploy/README.md and deploy/patroni/README.md run in tests/deploy, as they need a PostgreSQL.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from dnsvip.site.io.files import zone_files
from dnsvip.site.node_file import build_node
from dnsvip.site.registry import COLLECTIONS, SINGLE
from dnsvip.site.site_file import build_site

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = sorted(
    page
    for page in [ROOT / "README.md", *ROOT.glob("[!.]*/**/README.md"), *ROOT.glob("deploy/docs/*.md")]
    if page.parent.name not in ("deploy", "patroni") and BLOCK.search(page.read_text())
)
EXCERPT = re.compile(r"^```toml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXCERPTS = [
    pytest.param(text, id=f"{page.relative_to(ROOT)}:{number}")
    for page in sorted([*ROOT.glob("*.md"), *ROOT.glob("[!.]*/**/*.md")])
    for number, text in enumerate(EXCERPT.findall(page.read_text()))
]
BASE = Path(__file__).parent / "fixtures" / "docs" / "base.toml"

RUN = """
set -euo pipefail
ip link set lo up
trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT
"""
NODE = "<!-- a node runs -->"
"""In pages that begin where the first steps of the README end."""
RUN_NODE = """
cd first-site
dnsvip serve node.toml --token-file token &
until [ -s token ]; do sleep 0.1; done
export DNSVIP_TOKEN="$(cat token)"
"""


def isolated(*argv: str) -> list[str]:
    """The command line that runs `argv` in a fresh network namespace, with or without root."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *user, "--net", *argv]


@pytest.fixture(scope="module")
def first_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples, applied: where a node runs."""
    folder = tmp_path_factory.mktemp("docs") / "first-site"
    shutil.copytree(ROOT / "examples", folder)
    apply = (Path(sys.executable).with_name("dnsvip"), "apply", "site.toml", "--config", "node.toml")
    subprocess.run(apply, cwd=folder, check=True, capture_output=True)
    return folder


def test_readme_has_commands() -> None:
    """The README shows commands at all, so that the test below cannot pass on nothing."""
    assert ROOT / "README.md" in PAGES


@pytest.mark.network
@pytest.mark.timeout(240)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_run(page: Path, first_site: Path, tmp_path: Path) -> None:
    """The commands of a page exit 0, one after the other, on a copy of the examples. They leave keys, databases and
    tokens neither among the examples nor where git would take them."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    text = page.read_text()
    if NODE in text:
        shutil.copytree(first_site, tmp_path / "first-site")
    script = "\n".join([RUN, "set -x", RUN_NODE if NODE in text else "", *BLOCK.findall(text)])
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
    }
    with subprocess.Popen(
        isolated("bash", "-c", script),
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as running:
        try:
            said, _ = running.communicate(timeout=200)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)  # what the page started, where its shell was cut off
    assert running.returncode == 0, said
    assert _files(tmp_path / "examples") == _files(ROOT / "examples")
    made = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")} - {"examples"}
    assert {name for name in made if not _is_ignored(name)} == set(), "in the folder where the page was read"


def _files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if "__pycache__" not in path.parts}


def _is_ignored(name: str) -> bool:
    """Whether git leaves out a file or folder of the name in the top folder of the sources."""
    argv = ["git", "check-ignore", "--no-index", f"{name}/", name]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, check=False).returncode == 0


def laid_over(base: dict[str, Any], excerpt: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `excerpt`, table by table."""
    tables = {key: laid_over(base.get(key, {}), value) for key, value in excerpt.items() if isinstance(value, dict)}
    return base | excerpt | tables


@pytest.mark.parametrize("text", EXCERPTS)
def test_excerpts_are_valid(text: str) -> None:
    """Each setting that a page shows exists, and its value is allowed where everything that it names exists."""
    excerpt = tomllib.loads(text)
    if excerpt.keys() <= {*COLLECTIONS, SINGLE}:
        build_site(laid_over(tomllib.loads(BASE.read_text()), excerpt), zone_files(ROOT / "examples"))
    else:
        node = ROOT / "examples" / "node.toml"
        build_node(laid_over(tomllib.loads(node.read_text()), excerpt), node)
