"""Compiles the kernel's programs: every `programs/*.bpf.c` becomes a `*.bpf.o`, which the wheel carries.

Setuptools runs it (pyproject.toml, `tool.setuptools.cmdclass`); `python -m dnsvip.xdp.build` does so by hand for
an editable installation. Without clang the build goes on without objects, and `mode = "xdp"` refuses later; a
program that does not compile fails the build. Setuptools loads this file alone, so it imports nothing of dnsvip.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools.command.build_py import build_py

LEAST_CLANG = 19
"""What the programs are tested with; 14 lacks the BTF type tags that mark a kptr."""
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
    """The clang to use ($CLANG, else the first of COMPILERS that is new enough); None where there is none."""
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
    """Whether an object is missing or older than anything it may be made of."""
    objects = [to / f"{program.stem}.o" for program in source.glob("*.bpf.c")]
    newest = max((file.stat().st_mtime for file in source.glob("*.[ch]")), default=0)
    return any(not made.exists() or made.stat().st_mtime < newest for made in objects)


class BuildWithPrograms(build_py):  # type: ignore[misc]  # setuptools comes without types
    """`build_py` that also compiles: into the wheel's tree, for an editable installation beside the sources."""

    def run(self) -> None:
        """Build everything."""
        super().run()
        compile_all(HERE, HERE if self.editable_mode else Path(self.build_lib, "dnsvip", "xdp", "programs"))


def _compile(clang: str, program: Path, to: Path) -> Path:
    """One object, put in place whole, so that who reads it meanwhile has the old or the new one."""
    made = to.with_suffix(f".{os.getpid()}")
    # linux/types.h includes asm/types.h, which Debian keeps under the machine's own name.
    machine = sysconfig.get_config_var("MULTIARCH") or ""
    headers = [f"-I/usr/include/{machine}"] if machine else []
    try:
        subprocess.run([clang, *FLAGS, *headers, "-c", str(program), "-o", str(made)], check=True)
        made.replace(to)
    finally:
        made.unlink(missing_ok=True)
    return to


def _version(clang: str) -> int:
    said = subprocess.run([clang, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"clang version (\d+)", said)
    return int(found[1]) if found else 0


if __name__ == "__main__":
    if is_stale(HERE, HERE):
        compile_all(HERE, HERE)
