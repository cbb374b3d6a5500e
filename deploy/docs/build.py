"""Builds the documentation from the pages of the tree and from the command line itself (`make docs`).

    python deploy/docs/build.py html FOLDER    the site, with search
    python deploy/docs/build.py man FOLDER     a man page for each command

A broken link, and a page that `index.md` does not lead to, end the build.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from os.path import normpath
from pathlib import Path

from dnsvip.cli import COMMANDS, PARTS, root

HERE = Path(__file__).parent
TREE = HERE.parents[1]
FOLDERS = ("dnsvip", "deploy", "examples", "migrations", "tests")
LINK = re.compile(r"\]\(([^)]+)\)")
LEFT_OUT = shutil.ignore_patterns("__pycache__", "node_modules", "*.o", "fixtures", "artefacts", ".*")


def lay_out_site(folder: Path) -> str:
    """Copy the pages and what they link to, add one for each command, and return the first."""
    for page in (*TREE.glob("*.md"), TREE / "LICENSE"):
        shutil.copy(page, folder)
    for name in FOLDERS:
        shutil.copytree(TREE / name, folder / name, ignore=LEFT_OUT)
    first = folder / "deploy" / "docs" / "index.md"
    (folder / "index.md").write_text(
        LINK.sub(lambda link: f"]({normpath('deploy/docs/' + link[1])})", first.read_text())
    )
    first.unlink()
    write_commands(folder / "commands", _linked)
    return "index"


def lay_out_manual(folder: Path) -> str:
    """Write a page for each command and one that names them, and return that."""
    write_commands(folder / "commands", _named)
    return "commands/index"


def _linked(rows: list[tuple[str, str]]) -> list[str]:
    """Commands as a table of links that the site's navigation follows."""
    table = ["| command | |", "| --- | --- |", *(f"| [`dnsvip {name}`]({name}.md) | {says} |" for name, says in rows)]
    return [*table, "", "```{toctree}", ":hidden:", "", *(name for name, _ in rows), "```"]


def _named(rows: list[tuple[str, str]]) -> list[str]:
    """Commands as a list of man pages."""
    return [f"- **dnsvip-{name}**(1): {says}" for name, says in rows]


def write_commands(folder: Path, listed: Callable[[list[tuple[str, str]]], list[str]]) -> None:
    """Write a page for each command, which its help fills, and `index.md`, where `listed` shows those of a part."""
    folder.mkdir()
    context = root.make_context("dnsvip", [], resilient_parsing=True)
    for name, (module, _) in COMMANDS.items():
        root.get_command(context, name)  # which adds its examples to its help
        where = f"dnsvip.cli.{module}:{name.replace('-', '_')}"
        directive = [f".. click:: {where}", f"   :prog: dnsvip {name}", "   :nested: full"]
        (folder / f"{name}.md").write_text(
            "\n".join(["---", "orphan: true", "---", "```{eval-rst}", *directive, "```", ""])
        )
    lines = ["# Commands", "", root.help or ""]
    for part, title in PARTS.items():
        rows = [(name, says) for name, (module, says) in COMMANDS.items() if module.split(".")[0] == part]
        lines += ["", f"## {title}", "", *listed(rows)]
    (folder / "index.md").write_text("\n".join([*lines, ""]))


def build(builder: str, target: str) -> int:
    """Build with Sphinx into the folder `target`; returns its exit code."""
    from sphinx.cmd.build import main  # noqa: PLC0415 - takes a second, and the help of the commands must be whole

    with tempfile.TemporaryDirectory() as name:
        first = (lay_out_manual if builder == "man" else lay_out_site)(Path(name))
        options = ["--quiet", "--fail-on-warning", "--keep-going", "-D", f"root_doc={first}", "-d", f"{name}/.doctrees"]
        return main(["-b", builder, "-c", str(HERE), *options, name, target])


if __name__ == "__main__":
    sys.exit(build(*sys.argv[1:3]))
