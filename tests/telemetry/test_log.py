"""The process log: texts of others do nothing to who reads it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from typing import Literal, TypeAlias

import pytest
import structlog

from dnsvip.site.node_log import ProcessLogSettings
from dnsvip.telemetry.log import configure

HOSTILE = ("\x1b[2Jx", "\x9b2Jx", "\u202ex", "\u200bx", "x\nx", "x\rx")
Form: TypeAlias = Literal["console", "json"]


@contextmanager
def logged(form: Form) -> Iterator[io.StringIO]:
    """What is logged in a format."""
    before = structlog.get_config()
    with redirect_stderr(io.StringIO()) as said:
        configure(ProcessLogSettings(format=form))
        try:
            yield said
        finally:
            structlog.configure(**before)


@pytest.mark.parametrize("form", ["console", "json"])
@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_texts_control_no_terminal(form: Form, text: str) -> None:
    """What would control a terminal, turn text around, be unseen or begin a line of its own is an escape."""
    with logged(form) as log:
        structlog.get_logger().warning("refused", why=text, also=[text], error=ValueError(text))
    said = log.getvalue()
    assert said.count("\n") == 1
    assert said[:-1].isprintable()
    if form == "json":
        assert json.loads(said)["why"] == text


@pytest.mark.parametrize("form", ["console", "json"])
def test_tracebacks_too(form: Form) -> None:
    """The message of an exception may be what somebody sent."""
    with logged(form) as log:
        try:
            raise ValueError("\x1b[2J\u202e")
        except ValueError:
            structlog.get_logger().exception("failed")
    assert "ValueError" in log.getvalue()
    assert log.getvalue().replace("\n", "").isprintable()
