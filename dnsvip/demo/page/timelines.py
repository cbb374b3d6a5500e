"""Charts over time: a flood, a killed server, a killed dispatcher. Each is one SVG of the figures that it is given."""

from __future__ import annotations

from typing import Any

from dnsvip.demo.page.markup import drawing, element, label, line, path

WIDTH, LEFT, RIGHT = 720.0, 92.0, 14.0


class Axis:
    """Seconds from left to right."""

    def __init__(self, seconds: float) -> None:
        self.seconds = max(seconds, 0.1)

    def at(self, seconds: float) -> float:
        """Where a moment is."""
        return LEFT + (WIDTH - LEFT - RIGHT) * min(max(seconds, 0.0), self.seconds) / self.seconds

    def ticks(self, y: float) -> str:
        """Every second, or every other."""
        step = 1 if self.seconds <= 9 else 2
        numbers = range(0, int(self.seconds) + 1, step)
        return line(LEFT, y, WIDTH - RIGHT, y, "axis") + "".join(
            label(self.at(number), y + 20, f"{number} s", "small soft", "middle") for number in numbers
        )

    def mark(
        self, seconds: float, top: float, bottom: float, words: str, *, good: bool = False, before: bool = False
    ) -> str:
        """A vertical line with words at its top."""
        x, kind = self.at(seconds), "goodtext" if good else "badtext"
        place = (
            label(x - 6, top + 10, words, f"small {kind}", "end")
            if before
            else label(x + 6, top + 10, words, f"small {kind}")
        )
        return line(x, top, x, bottom, "mark ok" if good else "mark") + place


def flood(figures: dict[str, Any]) -> str:
    """Pages that come, above, and forged packets, below, by the fifth of a second."""
    rows = figures["slices"]
    step = rows[1]["at"] - rows[0]["at"]
    axis = Axis(rows[-1]["at"] + step)
    pages, forged = (max(row[key] for row in rows) or 1 for key in ("pages_per_second", "forged_per_second"))
    top, middle, bottom = 26.0, 150.0, 252.0
    curve = [
        (axis.at(row["at"] + step / 2), middle - (middle - top - 14) * row["pages_per_second"] / pages) for row in rows
    ]
    bars = "".join(
        element(
            "rect",
            x=axis.at(row["at"]) + 1,
            width=axis.at(step) - axis.at(0) - 2,
            y=bottom - (height := (bottom - middle - 26) * row["forged_per_second"] / forged),
            height=height,
            class_="attack",
        )
        for row in rows
    )
    start, end = axis.at(figures["from"]), axis.at(figures["to"])
    return drawing(
        WIDTH,
        284,
        "Pages per second before, during and after a flood of forged packets",
        element("rect", x=start, y=top, width=end - start, height=bottom - top, class_="span"),
        line(LEFT, middle, WIDTH - RIGHT, middle, "axis"),
        path(curve, "area", middle),
        path(curve, "curve"),
        bars,
        label(LEFT - 8, top + 18, f"{pages:.0f}/s", "small soft", "end"),
        label(LEFT - 8, middle, "0", "small soft", "end"),
        label(LEFT - 8, middle + 34, f"{forged:.0f}/s", "small soft", "end"),
        label(LEFT + 4, 14, "pages that come", "small strong"),
        label(start + 6, middle + 18, "forged packets", "small badtext"),
        axis.ticks(bottom),
    )


def lost_server(figures: dict[str, Any]) -> str:
    """Each page as a dot in the lane of the server that it came from, or of those that failed."""
    pages, (top, bottom) = figures["pages"], (30.0, 176.0)
    axis = Axis(max((page[0] for page in pages), default=1.0))
    names = sorted({page[1] for page in pages if page[1]})
    lanes = {name: top + 30 + 40 * number for number, name in enumerate([*names, ""])}
    kinds = {**{name: "dot" if number else "dot two" for number, name in enumerate(names)}, "": "dot fail"}
    dots = "".join(
        element("circle", cx=axis.at(at), cy=lanes[name] + jitter(number), r=2.6 if name else 4, class_=kinds[name])
        for number, (at, name, _) in enumerate(pages)
    )
    end = figures["killed"] + figures["seconds"]
    gone = element(
        "rect",
        x=axis.at(figures["killed"]),
        y=top,
        width=axis.at(end) - axis.at(figures["killed"]),
        height=bottom - top,
        class_="span",
    )
    words = "".join(
        label(LEFT - 10, y + 4, name or "failed", "small strong" if name else "small badtext", "end")
        for name, y in lanes.items()
    )
    marks = axis.mark(figures["killed"], 8, bottom, f"{figures['name']} killed", before=True)
    marks += axis.mark(figures["back"], 8, bottom, "started again", good=True)
    return drawing(
        WIDTH, 208, "Which server each page came from while one is killed", gone, dots, marks, words, axis.ticks(bottom)
    )


def jitter(number: int) -> float:
    """Keeps dots of one moment apart."""
    return (number * 7 % 13 - 6) * 1.3


def lost_dispatcher(figures: dict[str, Any]) -> str:
    """How a download grows while the dispatcher on its way is killed."""
    samples, (top, bottom), size = figures["samples"], (30.0, 196.0), figures["size"]
    axis = Axis(samples[-1][0])
    curve = [(axis.at(at), bottom - (bottom - top - 16) * got / size) for at, got in samples]
    return drawing(
        WIDTH,
        228,
        "Bytes of a download, before and after its dispatcher is killed",
        path(curve, "area", bottom),
        path(curve, "curve"),
        axis.mark(figures["killed"], 8, bottom, "dispatcher-2 killed", before=True),
        axis.mark(figures["moved"], 26, bottom, "route moved", good=True),
        label(LEFT - 8, top + 20, f"{size / 1e6:.0f} MB", "small soft", "end"),
        label(LEFT - 8, bottom, "0", "small soft", "end"),
        axis.ticks(bottom),
    )
