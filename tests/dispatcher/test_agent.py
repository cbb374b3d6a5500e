"""HAProxy's agent-check protocol, as its manual gives it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsvip.dispatcher.health.agent import Mode, Report, parse_report


@pytest.mark.parametrize(
    ("line", "report"),
    [
        (b"up\n", Report(running=True)),
        (b"down # database gone\r\n", Report(running=False, note="database gone")),
        (b"down#database gone", Report(running=False, note="database gone")),
        (b"stopped\n", Report(running=False, note="stopped")),
        (b"fail\nup\n", Report(running=False, note="fail")),
        (b"drain\n", Report(mode=Mode.DRAIN)),
        (b"maint", Report(mode=Mode.MAINT)),
        (b"75%\n", Report(percent=75)),
        (b"0%\n", Report(percent=0)),
        (b"9999%\n", Report(percent=1000)),
        (b"up 50%\n", Report(running=True, percent=50)),
        (b"READY, Up\t30% maxconn:30 # fine\n", Report(True, Mode.READY, 30, "fine")),
        (b" ready,up, 100% ", Report(True, Mode.READY, 100)),
        (b"maxconn:5", Report()),
    ],
)
def test_lines(line: bytes, report: Report) -> None:
    """Words may come in any order and case; what is not mentioned is None."""
    assert parse_report(line) == report


@pytest.mark.parametrize("line", [b"", b"\n", b"# nothing", b"hello", b"up 5", b"-5%", b"10000%", b"HTTP/1.0 400 Bad"])
def test_what_is_not_of_the_protocol(line: bytes) -> None:
    """A line with an unknown word is no report."""
    assert parse_report(line) is None


@given(st.binary(max_size=2000))
def test_any_bytes(line: bytes) -> None:
    """Noise is a report or none, and a note is short and printable."""
    report = parse_report(line)
    assert report is None or (len(report.note) <= 80 and (report.note.isprintable()))
