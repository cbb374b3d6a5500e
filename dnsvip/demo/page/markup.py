"""HTML and SVG as text: everything that is not markup is escaped. Knows nothing of demos."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

Words = str | float | None


def element(name: str, *inside: str, **attributes: Words) -> str:
    """An element; what is `inside` is markup already. `class_` is `class`, `stroke_width` is `stroke-width`; one that
    is None is left out."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_number(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{given}>{''.join(inside)}</{name}>"


def text(value: object) -> str:
    """A text, escaped."""
    return escape(str(value))


def label(x: float, y: float, words: object, class_: str | None = None, anchor: str | None = None) -> str:
    """A text in an SVG."""
    return element("text", text(words), x=x, y=y, class_=class_, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> str:
    """A line in an SVG."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def path(points: Iterable[tuple[float, float]], class_: str, closed_at: float | None = None) -> str:
    """A polyline; with `closed_at`, the area between it and that height."""
    every = list(points)
    if not every:
        return ""
    drawn = "L".join(f"{_number(x)} {_number(y)}" for x, y in every)
    if closed_at is not None:
        drawn += f"L{_number(every[-1][0])} {_number(closed_at)}L{_number(every[0][0])} {_number(closed_at)}Z"
    return element("path", d=f"M{drawn}", class_=class_)


def drawing(width: float, height: float, title: str, *inside: str, class_: str = "chart") -> str:
    """A whole SVG, with what it shows in words for those who do not see it."""
    head = element("title", text(title))
    return element("svg", head, *inside, viewBox=f"0 0 {_number(width)} {_number(height)}", role="img", class_=class_)


def _number(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
