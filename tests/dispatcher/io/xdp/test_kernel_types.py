"""The words that the C enums hold are the reference's own."""

from __future__ import annotations

import pytest

from dnsvip.dispatcher.io.xdp.kernel_types import TYPES, absent, padded, wide
from dnsvip.dispatcher.observe.plane import FlowState
from dnsvip.dispatcher.reason import REASONS, Action
from dnsvip.site import Forward, Stickiness


def test_reasons_are_the_same_list() -> None:
    """The program's counters have the names and the order of the reference's."""
    assert TYPES.words("reason", "REASON_") == {reason: number for number, reason in enumerate(REASONS)}
    assert TYPES.constants("reason")["REASONS"] == len(REASONS)


@pytest.mark.parametrize(
    ("enum", "prefix", "words"),
    [("action", "ACTION_", Action), ("stickiness", "STICKY_", Stickiness), ("mode", "MODE_", Forward)],
)
def test_enum_has_the_same_words(enum: str, prefix: str, words: type[Action | Stickiness | Forward]) -> None:
    """Every value that Python writes or reads has a number in C, and the other way round."""
    assert TYPES.words(enum, prefix).keys() == {word.value for word in words}


def test_flow_states_are_shown() -> None:
    """Every state of a record that holds a flow is one that `dnsvip flows` shows."""
    assert TYPES.words("flow_state", "FLOW_").keys() - {"none"} <= {state.value for state in FlowState}


def test_numbers_as_in_memory() -> None:
    """Addresses of four bytes are in the last four of sixteen; wide numbers have the upper half first."""
    assert padded(b"\1\2\3\4") == bytes(12) + b"\1\2\3\4"
    assert TYPES.struct("wide").unpack(wide(5 << 64 | 7)) == {"hi": 5, "lo": 7}
    assert absent() == 0xFFFF_FFFF
