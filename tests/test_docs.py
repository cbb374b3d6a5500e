"""Every command in the docs runs: the `sh` blocks of each page, in order, in one shell, in a network of their own.

Those of deploy/ run in tests/deploy, as they need a PostgreSQL.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = sorted(
    page
    for page in [ROOT / "README.md", *ROOT.glob("*/**/README.md")]
    if ".venv" not in page.parts and page.parent.name != "deploy" and BLOCK.search(page.read_text())
)

RUN = """
set -euo pipefail
ip link set lo up
trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT
"""


def isolated(*argv: str) -> list[str]:
    """The command line that runs `argv` in a fresh network namespace, with or without root."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *user, "--net", *argv]


def test_readme_has_commands() -> None:
    """The README shows commands at all, so that the test below cannot pass on nothing."""
    assert ROOT / "README.md" in PAGES


@pytest.mark.network
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_run(page: Path, tmp_path: Path) -> None:
    """The commands of a page exit 0, one after the other, on a copy of the examples."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    script = RUN + "set -x\n" + "\n".join(BLOCK.findall(page.read_text()))
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
    }
    done = subprocess.run(
        isolated("bash", "-c", script),
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
