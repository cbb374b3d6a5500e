"""The demo's report is coloured on a terminal, plain in a pipe, and never says "held" of a failed check."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from dnsvip.demo.record import Act, Check, Ran
from dnsvip.demo.report import HEAD, TAIL, Machine, Screen

GOOD = Act("good", "Good things", [], [Check("water is wet", True, "wet")])
BAD = Act("bad", "Bad things", [], [Check("pigs fly", False, "they walk")])
ENDED = Act("ended", "Cut short", [], [Check("it began", True, "yes")], failure="no more")


def screen_output(*acts: Act, terminal: bool = False) -> str:
    """The screen output of some acts."""
    out = io.StringIO()
    screen = Screen(
        Console(
            file=out,
            force_terminal=terminal,
            color_system="standard" if terminal else "auto",
            highlight=False,
            soft_wrap=True,
        )
    )
    screen.opening()
    for act in acts:
        screen.act(act)
        for check in act.checks:
            screen.check(check)
    screen.closing(acts, 1.0, Path("/tmp/demo"))
    return out.getvalue()


def test_a_terminal_gets_colour_and_a_pipe_none() -> None:
    """Escape sequences go to terminals only."""
    assert "\x1b[" in screen_output(GOOD, terminal=True)
    assert "\x1b[" not in screen_output(GOOD)


def test_the_table_repeats_every_check() -> None:
    """Each check is reported when it is decided and again in the table, with its result."""
    table = screen_output(GOOD, BAD).rpartition("Proven")[2]
    assert "ok      water is wet" in table
    assert "FAILED  pigs fly" in table
    assert "1 of 2 checks held in 1 s; the demo FAILED" in table


@pytest.mark.parametrize(("act", "held"), [(GOOD, True), (BAD, False), (ENDED, False), (Act("none", "Nothing"), False)])
def test_an_act_holds_only_whole(act: Act, held: bool) -> None:
    """An act holds if it completed, had checks, and all of them held."""
    assert act.held is held
    assert ("FAILED" in screen_output(act)) is not held


def test_brackets_and_long_output_are_shown_as_they_are() -> None:
    """Output is not parsed as markup; long output is cut in the middle and the cut is counted."""
    out = io.StringIO()
    screen = Screen(Console(file=out, highlight=False, soft_wrap=True))
    screen.command(Ran("a", "curl 'http://[2001:db8::1]/'", "\n".join(["[red]line"] * (HEAD + TAIL + 3)), 0))
    assert "  a$ curl 'http://[2001:db8::1]/'\n" in out.getvalue()
    assert out.getvalue().count("    [red]line\n") == HEAD + TAIL
    assert "... 3 more lines" in out.getvalue()


def test_machines_get_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    """The JSON document holds acts, commands and checks, and the overall result."""
    act = Act("good", "Good", [Ran("a", "true", "", 0)], GOOD.checks)
    Machine().closing([act], 1.25, Path("/tmp/demo"))
    document = json.loads(capsys.readouterr().out)
    assert document["held"] is True
    assert document["acts"][0]["commands"] == [{"host": "a", "line": "true", "output": "", "status": 0}]
    assert document["acts"][0]["checks"] == [{"what": "water is wet", "held": True, "seen": "wet"}]
