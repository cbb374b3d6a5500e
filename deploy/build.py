"""The build command: `build_py`, and what a package search does not find. All else is in pyproject.toml.

A wheel includes the compiled kernel programs, and the migrations beside the store that runs them. An editable
installation compiles in place and uses `migrations/` where it is. pyproject.toml names the command.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from setuptools.command.build_py import build_py

ROOT = Path(__file__).parents[1]
MIGRATIONS = ROOT / "migrations"

sys.path.insert(0, str(ROOT))  # a PEP 517 build runs without the folder of the sources

from dnsvip.xdp.build import HERE, compile_all  # noqa: E402 - importable from here on


class BuildPackage(build_py):
    """`build_py` with the kernel programs and the migrations."""

    def run(self) -> None:
        """Build everything; raises CalledProcessError for a program that does not compile."""
        super().run()
        if self.editable_mode:
            compile_all(HERE, HERE)
            return
        package = Path(self.build_lib, "dnsvip")
        compile_all(HERE, package / "xdp" / "programs")
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(MIGRATIONS, package / "store" / "migrations", ignore=ignored, dirs_exist_ok=True)

    def get_source_files(self) -> list[str]:
        """What an sdist includes: the sources of the package, and the migrations."""
        files = (path for path in MIGRATIONS.rglob("*") if path.is_file() and path.suffix != ".pyc")
        return [*super().get_source_files(), *(str(path.relative_to(ROOT)) for path in files)]
