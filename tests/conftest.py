"""What holds for every test run."""

from __future__ import annotations

import os
import sys

# The tests start `dnsvip` hundreds of times. An environment that forbids byte code (container images like to) would
# make each start compile the whole program again: 5 seconds of CPU time instead of 1.5.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
