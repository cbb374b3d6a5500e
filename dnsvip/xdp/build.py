"""Compiles the kernel programs: every `programs/*.bpf.c` becomes a `*.bpf.o`, which the wheel includes.

The build command (`deploy/build.py`) runs it; `python -m dnsvip.xdp.build` compiles what is out of date in an editable
installation. Without clang the build continues without objects, and `mode = "xdp"` is refused later; a program that
does not compile fails the build. It imports nothing but the standard library, as a build has nothing else.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

LEAST_CLANG = 19
"""The version that the programs are tested with; 14 lacks the BTF type tags that mark a kptr."""
COMPILERS = ("clang-19", "clang-20", "clang-21", "clang")
FLAGS = (
    "-target",
    "bpf",
    "-mcpu=v3",
    "-O2",
    "-g",
    "-std=gnu17",
    "-Wall",
    "-Wextra",
    "-Wno-unused-parameter",
    "-Werror",
)
HERE = Path(__file__).parent / "programs"


def compiler() -> str | None:
    """The clang to use: $CLANG, or the first of COMPILERS that is new enough; None where there is none."""
    for name in (os.environ.get("CLANG", ""), *COMPILERS):
        path = shutil.which(name) if name else None
        if path and _version(path) >= LEAST_CLANG:
            return path
    return None


def compile_all(source: Path, to: Path) -> list[Path]:
    """Compile every program in `source` into `to`: the objects, none without clang. Raises CalledProcessError."""
    clang = compiler()
    programs = sorted(source.glob("*.bpf.c"))
    if clang is None:
        print(f"no clang {LEAST_CLANG}: built without the kernel data plane (mode = xdp)", file=sys.stderr)  # noqa: T201
        return []
    to.mkdir(parents=True, exist_ok=True)
    return [_compile(clang, program, to / f"{program.stem}.o") for program in programs]


def is_stale(source: Path, to: Path) -> bool:
    """Whether an object is missing or older than any source."""
    objects = [to / f"{program.stem}.o" for program in source.glob("*.bpf.c")]
    newest = max((file.stat().st_mtime for file in source.glob("*.[ch]")), default=0)
    return any(not path.exists() or path.stat().st_mtime < newest for path in objects)


def _compile(clang: str, program: Path, to: Path) -> Path:
    """Compile one object and replace it atomically."""
    partial = to.with_suffix(f".{os.getpid()}")
    # linux/types.h includes asm/types.h, which Debian keeps under the machine's own name.
    machine = sysconfig.get_config_var("MULTIARCH") or ""
    headers = [f"-I/usr/include/{machine}"] if machine else []
    try:
        subprocess.run([clang, *FLAGS, *headers, "-c", str(program), "-o", str(partial)], check=True)
        partial.replace(to)
    finally:
        partial.unlink(missing_ok=True)
    return to


def _version(clang: str) -> int:
    output = subprocess.run([clang, "--version"], capture_output=True, text=True, check=False).stdout
    version = re.search(r"clang version (\d+)", output)
    return int(version[1]) if version else 0


if __name__ == "__main__":
    if is_stale(HERE, HERE):
        compile_all(HERE, HERE)
