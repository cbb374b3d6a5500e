from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from dnsvip.xdp import build

PROGRAM = 'int answer(void) { return 1; }\n__attribute__((section("license"), used)) char _license[] = "GPL";\n'


def test_compiles_every_program(tmp_path: Path) -> None:
    """Each NAME.bpf.c becomes a NAME.bpf.o."""
    (tmp_path / "one.bpf.c").write_text(PROGRAM)
    (tmp_path / "two.bpf.c").write_text(PROGRAM)
    assert [path.name for path in build.compile_all(tmp_path, tmp_path / "out")] == ["one.bpf.o", "two.bpf.o"]
    assert (tmp_path / "out" / "one.bpf.o").read_bytes()[:4] == b"\x7fELF"


def test_wrong_program_fails(tmp_path: Path) -> None:
    """A program that does not compile fails the build and leaves nothing behind."""
    (tmp_path / "wrong.bpf.c").write_text("int answer(void) { return x; }\n")
    with pytest.raises(subprocess.CalledProcessError):
        build.compile_all(tmp_path, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_old_object_is_stale(tmp_path: Path) -> None:
    """An object older than a header beside its source is compiled again."""
    (tmp_path / "one.bpf.c").write_text(PROGRAM)
    assert build.is_stale(tmp_path, tmp_path)
    build.compile_all(tmp_path, tmp_path)
    assert not build.is_stale(tmp_path, tmp_path)
    header = tmp_path / "some.h"
    header.touch()
    os.utime(header, (header.stat().st_atime, header.stat().st_mtime + 10))
    assert build.is_stale(tmp_path, tmp_path)


def test_goes_on_without_clang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without clang there are no objects, and the build says so."""
    (tmp_path / "one.bpf.c").write_text(PROGRAM)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert build.compile_all(tmp_path, tmp_path / "out") == []
    assert "built without the kernel data plane" in capsys.readouterr().err


def test_old_clang_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clang that is too old is not used."""
    old = tmp_path / "clang"
    old.write_text("#!/bin/sh\necho Debian clang version 14.0.6\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}")
    assert build.compiler() is None
