"""`make quick`: lint, the import layers, and the tests near what changed since the branch left main; a minute at most.

The console's scripts are checked (`make scripts`) where they, their tools or the API may have changed.

    python -m tests.quick [REVISION]

"Near" is what the tree says: tests mirror modules. A module's tests are `test_NAME.py` in the mirrored folder and the
files there that import it, else the whole folder. Tests marked `slow` or `network` are left to `make test`.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
LAYERS = "tests/test_layers.py"
SECONDS = 60.0
"""All steps together; what has not finished by then is named and left to `make test`."""

ELSEWHERE = {
    "deploy/": "tests/deploy",
    "dnsvip/admin/console/static/": "tests/console",
    "dnsvip/errors.py": LAYERS,
    "examples/": "tests/cli/test_examples.py",
    "migrations/": "tests/store/test_schema.py",
}
"""What has no mirror: the start of a path, and where its tests are."""

SCRIPTS = ("dnsvip/admin/", "dnsvip/site/", "tests/console/javascript/")
"""What `make scripts` checks: the scripts against types that are made from the declarations."""


def targets_of(path: str) -> set[str]:
    """The test files or folders for one changed file, both relative to the repository; empty where it has none."""
    file = Path(path)
    elsewhere = next((tests for head, tests in ELSEWHERE.items() if path.startswith(head)), None)
    if elsewhere:
        return {elsewhere}
    if file.suffix == ".md":
        return {"tests/test_docs.py"}
    if file.parts[0] == "tests" and file.suffix == ".py":
        return {path if file.name.startswith("test_") else str(file.parent)} - {"tests"}
    if file.parts[0] == "dnsvip" and len(file.parts) > 2:
        return set(_mirrored(file))
    return {LAYERS} if file.suffix == ".py" else set()


def _mirrored(file: Path) -> Iterator[str]:
    folder = Path("tests", *file.parent.parts[1:])
    while not (ROOT / folder).is_dir():
        folder = folder.parent
    name = ".".join(file.with_suffix("").parts).removesuffix(".__init__")
    imports = re.compile(rf"^\s*(from {re.escape(name)} import|import {re.escape(name)}\b)", re.MULTILINE)
    package = ROOT / "tests" / file.parts[1]
    near = {ROOT / folder / f"test_{file.stem}.py"} & set(package.rglob("test_*.py"))
    near |= {test for test in package.rglob("test_*.py") if imports.search(test.read_text())}
    yield from (str(test.relative_to(ROOT)) for test in near) if near else (str(folder),)


def changed(since: str | None) -> list[str]:
    """Files that differ from `since` (default: where this branch left main), untracked ones too; deleted ones not."""
    base = since or _git("merge-base", "HEAD", "main") or _git("merge-base", "HEAD", "origin/main") or "HEAD"
    names = f"{_git('diff', '--name-only', base)}\n{_git('ls-files', '--others', '--exclude-standard')}"
    return sorted(name for name in set(names.split("\n")) if name and (ROOT / name).exists())


def _git(*argv: str) -> str:
    done = subprocess.run(["git", *argv], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def steps(paths: Sequence[str]) -> Iterator[list[str]]:
    """The commands for changed files, in the order they run in."""
    targets = {target for path in paths for target in targets_of(path)}
    bin_folder = Path(sys.executable).parent
    yield [str(bin_folder / "ruff"), "check", "--quiet", "."]
    yield [str(bin_folder / "ruff"), "format", "--quiet", "--check", "."]
    if any(path.startswith(SCRIPTS) for path in paths):
        yield ["make", "--no-print-directory", "scripts"]
    chosen = sorted({LAYERS, *targets})
    # Files first, then folders: the nearest tests have run when the time is up.
    chosen.sort(key=lambda target: not target.endswith(".py"))
    marks = ["-m", "not slow and not network"]
    yield [sys.executable, "-m", "pytest", "-n", "auto", "--dist=loadfile", "--maxfail=5", *marks, *chosen]


def main(since: str | None = None) -> int:
    """Run the steps; the first status that is not 0, or 1 when the time is up."""
    deadline = time.monotonic() + SECONDS
    for argv in steps(changed(since)):
        sys.stdout.write(f"{' '.join([Path(argv[0]).name, *argv[1:]])}\n")
        sys.stdout.flush()
        with subprocess.Popen(argv, cwd=ROOT) as process:
            try:
                status = process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGINT)  # pytest then reports what has run
                process.wait()
                sys.stderr.write(f"quick: stopped after {SECONDS:.0f} s; what is left runs in `make test`\n")
                return 1
        if status:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
