"""The pages of the project lead somewhere: every link, anchor, path and make target that they name exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PAGES = sorted(page for folder in ("", "[!.]*/**/", ".github/**/") for page in ROOT.glob(f"{folder}*.md"))
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
QUOTED = re.compile(r"`([\w.*/-]+)`")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
SOURCE = re.compile(r"^[\w*/-]+(\.bpf)?\.(py|md|c|h|js)$")
MADE = {"tests/console/artefacts/", "dnsvip/store/migrations"}
"""Folders that programs make: screenshots, and what a wheel holds."""

FOLDERS = ("dnsvip/", "tests/", "deploy/", "examples/", "migrations/")


def by_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """The page without its code blocks."""
    return FENCE.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in HEADING.findall(prose(page))}


def dead_links(page: Path) -> Iterator[str]:
    for link in LINK.findall(prose(page)):
        path, _, anchor = link.partition("#")
        target = page if not path else page.parent / path
        if re.match(r"\w+:", link):
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


def dead_paths(page: Path) -> Iterator[str]:
    """What is quoted and looks like a path in the repository, seen from its root, the package or the page's folder."""
    for path in QUOTED.findall(prose(page)):
        if not (path.startswith(FOLDERS) or SOURCE.search(path)) or path.startswith("/") or path in MADE:
            continue
        places = (ROOT.glob(path), (ROOT / "dnsvip").glob(path), page.parent.glob(f"**/{path}"))
        if not any(next(place, None) for place in places):
            yield path


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link names a file that exists, and an anchor that is one of its headings."""
    assert list(dead_links(page)) == []


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_paths_exist(page: Path) -> None:
    """Each source file and folder that a page quotes is where it says."""
    assert list(dead_paths(page)) == []


def test_make_targets_exist() -> None:
    """What pages and the CI workflow ask `make` for is in the Makefile."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    runs = "\n".join(step.get("run", "") for job in jobs.values() for step in job["steps"])
    named = {name for page in PAGES for name in re.findall(r"`make ([a-z]+)", page.read_text())}
    assert named | set(re.findall(r"^make (\w+)", runs, re.MULTILINE)) <= targets
    assert {"lint", "test"} <= set(re.findall(r"^make (\w+)", runs, re.MULTILINE))


def test_workflow_asks_for_little() -> None:
    """The CI token of a fork can read the sources and nothing else."""
    assert yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["permissions"] == {"contents": "read"}


def test_workflow_actions_are_pinned() -> None:
    """Every action of the CI workflow is one commit: a tag could be moved."""
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    actions = [step["uses"] for job in jobs.values() for step in job["steps"] if "uses" in step]
    assert actions
    assert [name for name in actions if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", name)] == []


def test_hooks_are_local() -> None:
    """The pre-commit hooks are the project's own tools, not versions of somebody else's."""
    repos = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert {repo["repo"] for repo in repos} == {"local"}
    assert {"ruff", "ruff-format", "mypy"} <= {hook["id"] for repo in repos for hook in repo["hooks"]}


def test_the_version_is_in_the_changelog() -> None:
    """The changelog has a dated section for the version of the program."""
    from dnsvip import __version__  # noqa: PLC0415 - only this test needs the program

    text = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(rf"^## \[{re.escape(__version__)}\] - \d{{4}}-\d\d-\d\d$", text, re.MULTILINE)
