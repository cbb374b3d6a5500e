"""The atomic file writer: replacement, drafts, links, permissions, full disks and crashes."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dnsvip.errors import ConfigError, StoreError
from dnsvip.site.io import safe_file
from dnsvip.site.io.safe_file import draft_of, make_folder, write_file


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    """The content is replaced, the mode becomes 0600, and no draft is left."""
    path = tmp_path / "f"
    path.write_text("old")
    path.chmod(0o644)
    write_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["f"]


def test_a_draft_is_private_from_the_start(tmp_path: Path) -> None:
    """The draft is private whatever the umask, and the file does not exist before the commit."""
    before = os.umask(0)
    try:
        with draft_of(tmp_path / "f") as draft:
            (place,) = tmp_path.iterdir()
            assert stat.S_IMODE(place.stat().st_mode) == 0o600
            draft.file.write(b"x")
    finally:
        os.umask(before)
    assert list(tmp_path.iterdir()) == []  # not committed


@pytest.mark.parametrize("exists", [True, False])
def test_a_symbolic_link_is_replaced_not_followed(tmp_path: Path, *, exists: bool) -> None:
    """A symbolic link is replaced, and its target, existing or dangling, is left alone."""
    target = tmp_path / "target"
    if exists:
        target.write_text("theirs")
    (tmp_path / "f").symlink_to(target)
    write_file(tmp_path / "f", b"ours")
    assert not (tmp_path / "f").is_symlink()
    assert target.exists() == exists
    assert not exists or target.read_text() == "theirs"


@pytest.mark.parametrize("kind", ["file", "link", "dangling"])
def test_exclusive_creation_refuses_whatever_has_the_name(tmp_path: Path, kind: str) -> None:
    """Exclusive creation refuses a file, a link and a dangling link, and leaves them."""
    path, target = tmp_path / "f", tmp_path / "target"
    if kind == "file":
        path.write_text("theirs")
    else:
        path.symlink_to(target)
        if kind == "link":
            target.write_text("theirs")
    before = sorted(file.name for file in tmp_path.iterdir())
    with pytest.raises(StoreError, match="exists already; name a new file"):
        write_file(path, b"ours", exclusive=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == before
    assert kind == "dangling" or path.read_text() == "theirs"
    write_file(tmp_path / "g", b"ours", exclusive=True)
    assert (tmp_path / "g").read_bytes() == b"ours"


def test_a_folder_that_is_missing_or_a_file(tmp_path: Path) -> None:
    """The error has the requested class and names the file, the reason and the remedy."""
    with pytest.raises(ConfigError, match=r"no/f: cannot be written: No such file.*; create the folder first"):
        write_file(tmp_path / "no" / "f", b"", error=ConfigError)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"^the key: cannot be written: Not a directory"):
        write_file(tmp_path / "file" / "f", b"", what="the key")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match=r"Is a directory; name a file, not a folder"):
        write_file(tmp_path / "folder", b"")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder"]


def test_a_folder_that_is_not_writable() -> None:
    """If the folder is not writable, the message says so."""
    with pytest.raises(StoreError, match="/proc/f: cannot be written"):
        write_file(Path("/proc/f"), b"")


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """On a full disk (here a file size limit) the old file stays and no draft is left."""
    (tmp_path / "f").write_bytes(b"old")
    script = """
import resource, signal, sys
from pathlib import Path
from dnsvip.errors import StoreError
from dnsvip.site.io.safe_file import write_file
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_file(Path(sys.argv[1]), b"x" * 100_000)
except StoreError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "f")], capture_output=True, text=True, check=True
    )
    assert "f: cannot be written: File too large; raise the limit of file size" in done.stdout
    assert (tmp_path / "f").read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["f"]


def test_a_crash_before_the_commit_leaves_the_old_file(tmp_path: Path) -> None:
    """A process killed with a half-written draft changes nothing that a reader sees."""
    (tmp_path / "f").write_bytes(b"old")
    script = """
import os, sys
from pathlib import Path
from dnsvip.site.io.safe_file import draft_of
with draft_of(Path(sys.argv[1])) as draft:
    draft.file.write(b"half")
    draft.file.flush()
    os._exit(9)
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "f")], check=False)
    assert done.returncode == 9
    assert (tmp_path / "f").read_bytes() == b"old"
    write_file(tmp_path / "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"new"


def test_folders_are_private(tmp_path: Path) -> None:
    """A folder of state has mode 0700 whatever the umask is, and an existing one keeps its mode."""
    before = os.umask(0)
    try:
        make_folder(tmp_path / "state")
        (tmp_path / "shared").mkdir(mode=0o750)
        make_folder(tmp_path / "shared")
    finally:
        os.umask(before)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("state", "shared")]
    assert modes == [0o700, 0o750]


def test_nobody_else_makes_folders() -> None:
    """All that makes folders for state uses `make_folder`; pins, the build, the demo and a client's hosts file have
    their own."""
    package = Path(safe_file.__file__).parents[2]
    makers = {
        str(file.relative_to(package))
        for file in package.rglob("*.py")
        if re.search(r"\b(mkdir|makedirs|mkdtemp)\(", file.read_text())
    }
    own = {"site/io/safe_file.py", "xdp/pinned.py", "xdp/build.py", "client/io/hosts.py"}
    assert {name for name in makers if not name.startswith("demo/")} == own


WRITER = """
import sys
from pathlib import Path
from dnsvip.site.io.safe_file import draft_of
with draft_of(Path(sys.argv[1])) as draft:
    draft.file.write(b"half")
    draft.file.flush()
    print("written", flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_process_has_left(tmp_path: Path) -> None:
    """Its draft is deleted by who writes the file next; that of a process which still writes stays, and is put in
    place."""
    file, drafts = tmp_path / "snapshot", lambda: sorted(path.name for path in tmp_path.glob(".snapshot.*"))
    (tmp_path / ".snapshot.d").touch()
    killed, alive = (
        subprocess.Popen([sys.executable, "-c", WRITER, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(2)
    )
    try:
        for process in (killed, alive):
            assert process.stdout is not None
            assert process.stdout.readline() == b"written\n"
        assert len(drafts()) == 3
        killed.kill()
        killed.wait()
        write_file(file, b"whole")
        kept, named = drafts()
        assert (kept.split(".")[2], named) == (str(alive.pid), ".snapshot.d")
        assert file.read_bytes() == b"whole"
    finally:
        for process in (killed, alive):
            process.communicate()
    assert drafts() == [".snapshot.d"]
