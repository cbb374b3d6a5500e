"""`make docs`: the site and the man pages, from the pages of the tree and the help of the commands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dnsvip.cli import COMMANDS
from dnsvip.cli.examples import EXAMPLES

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "deploy" / "docs" / "build.py"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def built(builder: str, folder: Path) -> Path:
    """The folder with what Sphinx has built; any warning, as of a broken link, fails."""
    done = subprocess.run([sys.executable, BUILD, builder, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return folder


def test_the_site(tmp_path: Path) -> None:
    """Every page of the tree and every command is on the site, and its search finds words of each kind."""
    site = built("html", tmp_path / "site")
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True)
    pages = {*listed.stdout.split()} - {"deploy/docs/index.md"}
    assert {page for page in pages if not (site / page).with_suffix(".html").exists()} == set()
    assert {name for name in COMMANDS if not (site / "commands" / f"{name}.html").exists()} == set()
    index = (site / "searchindex.js").read_text()
    assert all(word in index for word in ("deploy/docs/privacy", "commands/keys", "resume_r", "rotate_everi"))
    assert "<svg" in (site / "index.html").read_text()


def test_man_pages(tmp_path: Path) -> None:
    """Each command has a man page with its subcommands, options and examples; `man` shows it without a warning."""
    pages = built("man", tmp_path / "man")
    assert {page.name for page in pages.glob("*.1")} == {"dnsvip.1", *(f"dnsvip-{name}.1" for name in COMMANDS)}
    for page in sorted(pages.glob("*.1")):
        shown = subprocess.run(
            ["man", "--warnings", "--local-file", page],
            env={"LC_ALL": "C.UTF-8", "MANWIDTH": "200", "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert shown.stderr == "", page.name
        name = page.stem.removeprefix("dnsvip-")
        assert all(f"dnsvip {line}" in shown.stdout for line in EXAMPLES.get(name, ())), page.name
    assert "--emergency" in shown_of(pages, "keys")


def shown_of(pages: Path, name: str) -> str:
    """The text of one command's page."""
    argv = ["man", "--local-file", pages / f"dnsvip-{name}.1"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout
