"""The sample log: exact sampling, background writes, and counted drops instead of blocking."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dnsvip.site.node_log import SampleSettings
from dnsvip.telemetry.sample_log import WAITING, Anonymise, Every, JsonLines, SampleLog
from tests.node.serving import within


@given(st.integers(1, 50), st.lists(st.integers(1, 64), max_size=40))
def test_one_in_so_many(one_in: int, batches: list[int]) -> None:
    """Each `one_in`-th item is sampled exactly once, however the items are batched."""
    every, at, picked = Every(one_in), 0, []
    for number in batches:
        picked += sorted(at + place for place in every.picks(number))
        at += number
    assert picked == list(range(one_in - 1, at, one_in))


def as_it_is(sample: int, _: Anonymise) -> Mapping[str, Any]:
    return {"n": sample}


def lines(file: Path) -> list[int]:
    return [json.loads(line)["n"] for line in file.read_text().splitlines()] if file.exists() else []


def test_written_and_reopened(tmp_path: Path) -> None:
    """Lines keep their order; after the file is moved, later lines go to a new one."""
    file = tmp_path / "samples"
    log = SampleLog(SampleSettings(1), as_it_is, JsonLines(file))
    log.start()
    for number in range(3):
        log.offer(number)
    within(10, lambda: log.written == 3)
    file.rename(tmp_path / "old")
    log.reopen()
    within(10, file.exists)
    log.offer(3)
    log.stop()
    assert (lines(tmp_path / "old"), lines(file)) == ([0, 1, 2], [3])
    assert log.counts() == {"written": 4, "dropped": 0}


def test_too_many_are_dropped(tmp_path: Path) -> None:
    """While writing stalls, offering does not block: samples over the limit are dropped and counted."""
    gate = threading.Event()

    def slow(sample: int, _: Anonymise) -> Mapping[str, Any]:
        gate.wait(60)
        return {"n": sample}

    log = SampleLog(SampleSettings(1), slow, JsonLines(tmp_path / "samples"))
    log.start()
    for number in range(WAITING + 100):
        log.offer(number)
    assert 99 <= log.dropped <= 100
    gate.set()
    log.stop()
    assert log.written + log.dropped == WAITING + 100


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    """Samples for a missing folder are dropped and counted, and written once it exists."""
    log = SampleLog(SampleSettings(1), as_it_is, JsonLines(tmp_path / "none" / "samples"))
    log.start()
    log.offer(1)
    within(10, lambda: log.dropped == 1)
    (tmp_path / "none").mkdir()
    log.offer(2)
    within(10, lambda: log.written == 1)
    log.stop()
    assert lines(tmp_path / "none" / "samples") == [2]


def test_anonymised() -> None:
    """By default addresses are truncated to /24 and /48; the node file can keep them whole."""
    log = SampleLog(SampleSettings(), as_it_is, JsonLines(None))
    assert log.anonymise(ip_address("198.51.100.77")) == "198.51.100.0/24"
    assert log.anonymise(ip_address("2001:db8:77:1:2::3")) == "2001:db8:77::/48"
    whole = SampleLog(SampleSettings(keep4=32, keep6=128), as_it_is, JsonLines(None))
    assert whole.anonymise(ip_address("2001:db8::3")) == "2001:db8::3"
    assert (
        SampleLog(SampleSettings(keep4=0, keep6=0), as_it_is, JsonLines(None)).anonymise(ip_address("192.0.2.1"))
        == "0.0.0.0/0"
    )
