"""The second half of `make test`: tests that failed beside others, once more and alone.

    python -m tests.again STATUS [ARGUMENT OF PYTEST...]

The tests share two processors, and some of them hold real programs to seconds. So up to MOST that failed are run again
one by one, with nothing beside them; their names are printed, as such a test is worth a look. More than that, or a run
that broke otherwise (STATUS is pytest's, and what failed is no test), is a failure at once. CPython's own tests are run
in the same way.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

MOST = 3
LAST_FAILED = Path(".pytest_cache/v/cache/lastfailed")
FAILED = 1
"""pytest's status where tests have run and some failed."""


def main(status: int, arguments: Sequence[str]) -> int:
    """The status of the whole run."""
    failed = sorted(json.loads(LAST_FAILED.read_text())) if LAST_FAILED.exists() else []
    if status != FAILED or not 0 < len(failed) <= MOST or not all("::" in name for name in failed):
        return status
    sys.stdout.write(f"\nFailed beside other tests, and run again alone: {', '.join(failed)}\n")
    sys.stdout.flush()
    alone = ["--numprocesses=0", "--last-failed", "--last-failed-no-failures=none", *arguments]
    status = subprocess.run([sys.executable, "-m", "pytest", *alone], check=False).returncode
    sys.stdout.write(f"\nAlone {'they pass' if status == 0 else 'they fail too'}: {', '.join(failed)}\n")
    return status


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]), sys.argv[2:]))
