"""Who says what to whom until the first byte: a ladder for each kind of balancer, time going down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from dnsvip.demo.page.markup import drawing, element, label, line

Step: TypeAlias = tuple[str, str, str]
"""Who sends, to whom, what: client (c), machine in between (m), server (s); what `cms` sends passes the machine."""

PLACES = {"c": 34.0, "m": 130.0, "s": 226.0}
NAMES = {"c": "client", "s": "server"}
TOP, STEP, SLANT, WIDTH = 46.0, 25.0, 9.0, 260.0

LADDERS: Sequence[tuple[str, str, str, Sequence[Step]]] = (
    (
        "dnsvip",
        "dispatcher",
        "us",
        (("cms", "s", "SYN"), ("s", "c", "SYN ACK"), ("cms", "s", "request"), ("s", "c", "answer")),
    ),
    (
        "Proxy",
        "HAProxy",
        "plain",
        (
            ("c", "m", "SYN"),
            ("m", "c", "SYN ACK"),
            ("c", "m", "request"),
            ("m", "s", "SYN"),
            ("s", "m", "SYN ACK"),
            ("m", "s", "request"),
            ("s", "m", "answer"),
            ("m", "c", "answer"),
        ),
    ),
    (
        "Redirect",
        "HAProxy",
        "plain",
        (
            ("c", "m", "SYN"),
            ("m", "c", "SYN ACK"),
            ("c", "m", "request"),
            ("m", "c", "302"),
            ("c", "s", "SYN"),
            ("s", "c", "SYN ACK"),
            ("c", "s", "request"),
            ("s", "c", "answer"),
        ),
    ),
)


def ladders() -> str:
    """All of them, side by side where there is room."""
    most = max(len(steps) for *_, steps in LADDERS)
    drawn = (_ladder(title, middle, kind, steps, TOP + STEP * most + 8) for title, middle, kind, steps in LADDERS)
    return element("div", *drawn, class_="ladders")


def _ladder(title: str, middle: str, kind: str, steps: Sequence[Step], bottom: float) -> str:
    names = {**NAMES, "m": middle}
    heads = "".join(label(x, 34, names[who], "small soft", "middle") for who, x in PLACES.items())
    rails = "".join(line(x, 40, x, bottom, "rail") for x in PLACES.values())
    arrows = "".join(_arrow(step, TOP + STEP * number, kind) for number, step in enumerate(steps))
    name = label(WIDTH / 2, 15, title, "strong", "middle")
    words = f"{title}: " + ", ".join(f"{names[way[0]]} to {names[to]} {what}" for way, to, what in steps)
    return drawing(WIDTH, bottom + 4, words, name, heads, rails, arrows, class_="ladder")


def _arrow(step: Step, y: float, kind: str) -> str:
    way, to, what = step
    start, end = PLACES[way[0]], PLACES[to]
    back = 5 if end > start else -5
    head = f"M{end - back * 1.4} {y + SLANT - 4.5}L{end} {y + SLANT}L{end - back * 1.4} {y + SLANT + 3}Z"
    dot = element("circle", cx=PLACES["m"], cy=y + SLANT / 2, r=4, class_=f"stop {kind}") if "m" in way[1:] else ""
    # A label stays clear of the machine that an arrow passes.
    middle = (start + end) / 2 if abs(end - start) < 100 else start + (end - start) / 4
    return (
        line(start, y, end, y + SLANT, f"rung {kind}")
        + element("path", d=head, class_=f"tip {kind}")
        + dot
        + label(middle, y + SLANT / 2 - 4, what, "tiny", "middle")
    )
