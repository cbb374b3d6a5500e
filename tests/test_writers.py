"""Every file that the program writes: private from the start, never through a link, never in the place of a device.

One table of all writers; whoever opens a file for writing elsewhere is found by its syntax.
"""

from __future__ import annotations

import ast
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest

from dnsvip.client.certificate import Chain, new_key
from dnsvip.client.io.certificate_files import CertificateFiles
from dnsvip.client.io.files import save as save_enrolment
from dnsvip.dispatcher.io.user.uses_file import UsesFile
from dnsvip.errors import DnsvipError
from dnsvip.node.first_token import _delivery
from dnsvip.site import Snapshot
from dnsvip.site.history import Memory
from dnsvip.site.io.safe_file import draft_of, open_to_append
from dnsvip.store import KeyEncryptionKey
from dnsvip.store.database.database import make_file
from dnsvip.store.following.disk import save_memory
from dnsvip.store.secrets.sources import _create
from dnsvip.store.snapshots import lastgood
from tests.client.test_agent import enrolment

PACKAGE = Path(__file__).parent.parent / "dnsvip"


@dataclass(frozen=True)
class Writer:
    """`write` makes the file at a path, whose name is `name` where the writer chooses that. `replaces`: a file or link
    that has the name is replaced; else it stays. `refuses`: that is an error, not something to be read."""

    write: Callable[[Path], object]
    name: str = "file"
    replaces: bool = True
    refuses: bool = True


def _token(path: Path) -> None:
    with _delivery(path) as hand_over:
        hand_over("secret")


def _key(path: Path) -> None:
    KeyEncryptionKey.load(path, {})


def _snapshot(path: Path) -> None:
    _key(path.with_name("key"))
    lastgood.save(path.parent, Snapshot(1), "id", KeyEncryptionKey.load(path.with_name("key"), {}), overwrite=True)


def _certificate(path: Path) -> None:
    CertificateFiles(path.with_suffix(".json")).save(Chain("PEM", new_key().public_key(), 0, 1))


def _backup(path: Path) -> None:
    with draft_of(path, exclusive=True) as draft:
        draft.commit()


def _log(path: Path) -> None:
    try:
        open_to_append(path).close()
    except OSError as error:
        raise DnsvipError(str(error.strerror)) from error


WRITERS = {
    "first token": Writer(_token),
    "key": Writer(_create, replaces=False, refuses=False),
    "enrolment": Writer(lambda path: save_enrolment(enrolment("192.0.2.53:53"), path)),
    "client's certificate": Writer(_certificate, "enrolment.crt"),
    "backup": Writer(_backup, replaces=False),
    "last good snapshot": Writer(_snapshot, lastgood.FILE),
    "memory": Writer(lambda path: save_memory(path.parent, Memory()), "memory.json"),
    "used addresses": Writer(lambda path: UsesFile.open(path, 4, 90).close(), "uses", replaces=False),
    "sampled log": Writer(_log, replaces=False),
    "database": Writer(make_file, replaces=False),
}
every_writer = pytest.mark.parametrize("writer", WRITERS.values(), ids=list(WRITERS))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder of our own, under a umask that protects nothing."""
    before = os.umask(0)
    folder = tmp_path / "own"
    folder.mkdir(mode=0o700)
    yield folder
    os.umask(before)


@every_writer
def test_a_new_file_is_private(writer: Writer, folder: Path) -> None:
    """A new file has mode 0600 whatever the umask."""
    writer.write(folder / writer.name)
    status = (folder / writer.name).stat()
    assert stat.S_ISREG(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o600


@every_writer
def test_a_dangling_link_is_not_followed(writer: Writer, folder: Path, tmp_path: Path) -> None:
    """A symbolic link to nothing is replaced or refused; what it names is not created."""
    (folder / writer.name).symlink_to(tmp_path / "victim")
    if writer.replaces:
        writer.write(folder / writer.name)
        assert not (folder / writer.name).is_symlink()
    else:
        with pytest.raises(DnsvipError) if writer.refuses else nullcontext():
            writer.write(folder / writer.name)
    assert not (tmp_path / "victim").exists()


@pytest.mark.parametrize("what", ["fifo", "device", "link to a device", "open file", "folder"])
@every_writer
def test_what_is_no_file_stays(writer: Writer, folder: Path, what: str) -> None:
    """A FIFO, a device, a link to one or to an open file of the process, and a folder are refused and stay."""
    path = folder / writer.name
    match what:
        case "fifo":
            os.mkfifo(path)
        case "device":
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
        case "link to a device":
            path.symlink_to("/dev/null")
        case "open file":
            path.symlink_to("/proc/self/fd/1")
        case "folder":
            path.mkdir()
    before = path.lstat()
    refused = pytest.raises(DnsvipError, match=r"not a regular file|s a directory")
    with refused if writer.refuses else nullcontext():
        writer.write(path)
    after = path.lstat()
    assert (after.st_ino, after.st_mode, after.st_rdev) == (before.st_ino, before.st_mode, before.st_rdev)


@every_writer
def test_a_folder_where_everybody_may_write_is_refused(writer: Writer, folder: Path) -> None:
    """In a folder where everybody may write and delete no private file is created; in one like /tmp it is."""
    folder.chmod(0o777)
    with pytest.raises(DnsvipError, match=f"everybody may write in .*chmod o-w {folder}"):
        writer.write(folder / writer.name)
    assert list(folder.iterdir()) == []
    folder.chmod(0o1777)
    writer.write(folder / writer.name)


OTHERS = {
    "site/io/safe_file.py": "the safe writer",
    "client/io/enter.py": "/proc/self/uid_map",
    "client/io/hosts.py": "a file that mkstemp has created",
    "demo/host.py": "the demo's own temporary folder",
    "demo/netns.py": "the demo's own temporary folder",
    "demo/scripts.py": "the demo's own temporary folder",
    "demo/site.py": "the demo's own temporary folder",
    "dispatcher/io/user/netlink.py": "/proc/sys",
    "dispatcher/io/user/host.py": "the TUN device",
    "demo/privilege.py": "the TUN device",
    "dispatcher/io/user/uses_file.py": "a file that the safe writer has just written, mapped",
    "dns/io/geo.py": "a memfd",
    "dns/io/xdp/answers.py": "a folder, to lock it",
    "xdp/chain.py": "a folder, to lock it",
    "doctor/probe_host.py": "the TUN device, opened and closed",
    "client/io/command.py": "the terminal, to read",
}
"""The modules that open what they write by themselves, and what that is."""


def test_there_is_no_other_writer() -> None:
    """No other module opens a file to write, so each writer is safe and in this test."""
    others = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and _writes(node)
    }
    assert others == OTHERS.keys()


def _writes(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in ("write_text", "write_bytes", "mkstemp"):
        return True
    if name != "open":
        return False
    if isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", "") == "os":
        return True
    modes = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
    return any(
        isinstance(mode, ast.Constant)
        and isinstance(mode.value, str)
        and set(mode.value) <= set("rwaxbt+")
        and set(mode.value) & set("wax+")
        for mode in modes
    )
