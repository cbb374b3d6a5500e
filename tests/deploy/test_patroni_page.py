"""deploy/patroni/README.md, step by step: three etcd, three PostgreSQL, two nodes, and the loss of the leader."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_docs import BLOCK, ROOT, RUN, isolated

PAGE = ROOT / "deploy" / "patroni" / "README.md"

pytestmark = [pytest.mark.release, pytest.mark.network, pytest.mark.slow]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that PostgreSQL's user can enter, with a short path."""
    if os.geteuid() != 0:
        pytest.skip("the page's commands are those of root")
    made = Path(tempfile.mkdtemp(prefix="dnsvip-page-", dir="/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.mark.timeout(240)
def test_the_page_from_top_to_bottom(folder: Path) -> None:
    """Every command of the page runs in order, and changes are taken again after the leader was killed."""
    shutil.copytree(ROOT / "examples", folder / "examples")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        "DEPLOY": str(ROOT / "deploy" / "patroni"),
    }
    script = RUN + "set -x\n" + "\n".join(BLOCK.findall(PAGE.read_text()))
    apart = ["--pid", "--fork", "--kill-child", "--mount-proc"]  # so that nothing of it outlives the test
    done = subprocess.run(
        isolated(*apart, "bash", "-c", script), cwd=folder, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]
