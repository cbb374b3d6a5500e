"""The file of used single-use addresses: through restarts and kills, damage, other sizes, boots and what is no file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dnsvip.dispatcher.flows.uses import RECORD_BYTES
from dnsvip.dispatcher.io.user import uses_file
from dnsvip.dispatcher.io.user.uses_file import HEADER_BYTES, UsesFile
from dnsvip.errors import PlatformError
from tests.dispatcher.test_uses import key, name

LONGEST = 90
BOUND = 64


def opened(path: Path, bound: int = BOUND) -> UsesFile:
    return UsesFile.open(path, bound, LONGEST)


def used(file: UsesFile) -> set[int]:
    """The numbers of the addresses that are used, of the first thousand."""
    now = int(time.time())
    return {number for number in range(1000) if file.uses.get(name(number), now)}


def fill(path: Path, *numbers: int, until: float = LONGEST, close: bool = True) -> None:
    """Use addresses and stop, or end without stopping."""
    file = opened(path)
    for number in numbers:
        file.uses.put(name(number), key(number), int(time.time() + until))
    if close:
        file.close()
    else:
        file.uses.release()


@pytest.mark.parametrize("close", [True, False])
def test_uses_survive_a_restart(tmp_path: Path, *, close: bool) -> None:
    """After a stop and after an end without one all uses are there, private, and nothing is refused."""
    path = tmp_path / "state" / "uses"
    fill(path, 1, 2, close=close)
    fill(path, 3, close=close)
    file = opened(path)
    assert used(file) == {1, 2, 3}
    assert (file.damaged, file.uses.closed_until) == (0, 0)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_size == HEADER_BYTES + BOUND * RECORD_BYTES
    file.close()


def test_uses_survive_a_kill(tmp_path: Path) -> None:
    """A process that is killed in the midst of its work has lost nothing that it said to have done."""
    script = """
import sys, time
from pathlib import Path
from dnsvip.dispatcher.io.user.uses_file import UsesFile
from tests.dispatcher.test_uses import key, name
file = UsesFile.open(Path(sys.argv[1]), 64, 90)
for number in range(64):
    file.uses.put(name(number), key(number), int(time.time()) + 90)
    print(number, flush=True)
time.sleep(60)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "uses")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    done = {int(process.stdout.readline()) for _ in range(40)}
    process.send_signal(signal.SIGKILL)
    process.wait()
    file = opened(tmp_path / "uses")
    assert done <= used(file)
    assert file.damaged <= 1  # the record that it was writing
    file.close()


def test_a_share_survives_a_restart(tmp_path: Path) -> None:
    """A client that has filled its share before a restart has no room after it; others have."""
    path, now = tmp_path / "uses", int(time.time())
    file = opened(path, 256)
    for number in range(64):
        file.uses.put(name(number), key(number), now + LONGEST, 7)
    file.close()
    again = opened(path, 256)
    assert [again.uses.has_room(name(99), client, now) for client in (7, 8)] == [False, True]
    again.close()


def test_out_of_date_uses_go(tmp_path: Path) -> None:
    """Uses whose proof is no longer accepted are not taken over."""
    fill(tmp_path / "uses", 1, until=-1)
    file = opened(tmp_path / "uses")
    assert len(file.uses) == 0
    file.close()


@pytest.mark.parametrize("at", [0, 8, 20, HEADER_BYTES + 3, HEADER_BYTES + RECORD_BYTES - 1])
def test_damage_is_counted_and_closes(tmp_path: Path, at: int) -> None:
    """A damaged header or record is counted, and single-use addresses have no room until old proofs are out of date."""
    path = tmp_path / "uses"
    fill(path, 1, 2)
    content = bytearray(path.read_bytes())
    content[at] ^= 0x41
    path.write_bytes(content)
    file, now = opened(path), time.time()
    assert file.damaged == 1
    assert now + LONGEST - 5 <= file.uses.closed_until <= now + LONGEST
    assert not file.uses.has_room(name(9), 1, int(now))
    assert used(file) <= {1, 2}
    file.close()


@pytest.mark.parametrize("content", [b"", b"short", bytes(HEADER_BYTES), os.urandom(5000)])
def test_what_is_no_such_file_is_replaced(tmp_path: Path, content: bytes) -> None:
    """Whatever else is in the file counts as damage; the file works again."""
    path = tmp_path / "uses"
    path.write_bytes(content)
    file = opened(path)
    assert file.damaged == 1
    assert not file.uses.has_room(name(9), 1, int(time.time()))
    file.close()
    assert opened(path).damaged == 0


def test_a_machine_that_went_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uses of another boot may not all be on disk, unless the file was closed: they count from the boot."""
    path, boot = tmp_path / "uses", tmp_path / "boot"
    boot.write_text("another-boot\n")
    monkeypatch.setattr(uses_file, "BOOT", boot)
    fill(path, 1)
    fill(tmp_path / "cut", 1, close=False)
    monkeypatch.undo()
    closed, cut = opened(path), opened(tmp_path / "cut")
    assert (closed.uses.closed_until, used(closed)) == (0, {1})
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    assert abs(cut.uses.closed_until - (booted + LONGEST)) <= 2
    assert used(cut) == {1}
    closed.close()
    cut.close()


def test_another_bound(tmp_path: Path) -> None:
    """A larger table takes all uses over; a smaller one those good for longest, and is closed for the others."""
    path, now = tmp_path / "uses", int(time.time())
    file = opened(path)
    for number in range(BOUND):
        file.uses.put(name(number), key(number), now + 50 + number)
    file.close()
    larger = opened(path, 2 * BOUND)
    assert used(larger) == set(range(BOUND))
    larger.close()
    smaller = opened(path, BOUND // 4)
    assert used(smaller) == set(range(BOUND - BOUND // 4, BOUND))
    assert smaller.uses.closed_until == now + 50 + BOUND - BOUND // 4 - 1
    smaller.close()


@pytest.mark.parametrize("what", ["fifo", "link", "folder"])
def test_what_is_no_file_is_refused(tmp_path: Path, what: str) -> None:
    """A FIFO, a link and a folder are refused, without waiting, and stay."""
    path = tmp_path / "uses"
    match what:
        case "fifo":
            os.mkfifo(path)
        case "link":
            (tmp_path / "victim").write_bytes(b"theirs")
            path.symlink_to(tmp_path / "victim")
        case "folder":
            path.mkdir()
    with pytest.raises(PlatformError):
        opened(path)
    assert what != "link" or (tmp_path / "victim").read_bytes() == b"theirs"
