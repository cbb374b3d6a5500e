"""All parts of the bench, or one: `python -m tests.bench [PART] [its options]`; `make bench` runs this.

The exit code is the highest of the parts': 1 if a goal is missed, 2 if something cannot be measured here.
"""

from __future__ import annotations

import subprocess
import sys

PARTS = {
    "codec": "tests.bench.bench_codec",
    "dispatch": "tests.bench.bench_dispatch",
    "dns": "tests.bench.bench_dns",
    "encrypted": "tests.bench.bench_encrypted",
    "kernel": "tests.bench.bench_kernel",
    "nodes": "tests.bench.bench_nodes",
    "quality": "tests.bench.bench_quality",
    "sizing": "tests.bench.bench_sizing",
}
ALSO = {"dispatcher": "dispatch"}
"""Aliases of parts."""


def main() -> None:
    """Run the named part, or every part, each in its own process."""
    wanted, options = [ALSO.get(part, part) for part in sys.argv[1:2]], sys.argv[2:]
    unknown = [part for part in wanted if part not in PARTS]
    if unknown:
        print(f"bench: {unknown[0]}: there is no such part; known: {', '.join(PARTS)}", file=sys.stderr)
        raise SystemExit(2)
    raise SystemExit(max(run(part, options) for part in wanted or PARTS))


def run(part: str, options: list[str]) -> int:
    """The exit code of a part."""
    print(f"== {part}", flush=True)
    return abs(subprocess.run([sys.executable, "-m", PARTS[part], *options], check=False).returncode)


if __name__ == "__main__":
    main()
