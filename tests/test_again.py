"""Tests that failed beside others pass only if they do so alone, and never many of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.again import LAST_FAILED

FLAKY = """
from pathlib import Path
import pytest

from tests.again import LAST_FAILED

@pytest.mark.parametrize("number", range({number}))
def test(number):
    mark = Path(f"mark-{{number}}")
    seen = mark.exists()
    mark.touch()
    assert seen and {alone}
"""


@pytest.mark.parametrize(
    ("number", "alone", "status"), [(2, True, 0), (2, False, 1), (4, True, 1)], ids=["passes", "fails", "too many"]
)
def test_what_failed_is_run_again_alone(number: int, alone: bool, status: int, tmp_path: Path) -> None:
    """Three failures are tried again at most, and must pass then."""
    (tmp_path / "test_flaky.py").write_text(FLAKY.format(number=number, alone=alone))
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}

    def status_of(*arguments: str) -> int:
        command = [sys.executable, "-m", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, check=False).returncode

    assert status_of("pytest", "-q") == 1
    assert status_of("tests.again", "1", "-q") == status
    assert status_of("tests.again", "2", "-q") == 2


def test_what_is_no_test_is_not_run_again(tmp_path: Path) -> None:
    """Processes that collected different tests have failed, not tests: nothing is run, least of all everything."""
    (tmp_path / "test_fine.py").write_text("def test():\n    open('ran', 'w')\n")
    cache = tmp_path / LAST_FAILED
    cache.parent.mkdir(parents=True)
    cache.write_text('{"gw0": true}')
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, "-m", "tests.again", "1", "-q"]
    assert subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, check=False).returncode == 1
    assert not (tmp_path / "ran").exists()
