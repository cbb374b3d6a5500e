"""The comparison of five ways to a server: bars with every sample, and a table."""

from __future__ import annotations

from typing import Any

from dnsvip.demo.page.markup import element, text

OURS = "dnsvip"
ROOM = 1.12
"""The scale, as a multiple of the largest median: what lies beyond is at its end."""


def bars(figures: dict[str, Any]) -> str:
    """A row for each way: the median time to the first byte as a bar, each sample as a dot."""
    ways = figures["ways"]
    most = ROOM * max(way["median"] for way in ways)
    trip = 2 * figures["delay_ms"] / 1000
    rows = "".join(_row(way, most) for way in ways)
    return element("div", rows, class_="ways", style=f"--trip: {100 * trip / most:.3f}%")


def _row(way: dict[str, Any], most: float) -> str:
    dots = "".join(
        element("span", class_="sample", style=f"left: {100 * min(seconds / most, 1):.2f}%")
        for seconds in way["seconds"]
    )
    bar = element("div", class_="bar", style=f"width: {100 * way['median'] / most:.2f}%")
    fastest = element("small", f"fastest {min(way['seconds']) * 1000:.0f} ms")
    value = element("b", f"{way['median'] * 1000:.0f} ms") + f", {trips(way)}{fastest}"
    return element(
        "div",
        element("div", element("strong", text(way["title"]))),
        element("div", bar, dots, class_="track"),
        element("div", value, class_="value"),
        class_=_class("way", way),
    )


def table(figures: dict[str, Any]) -> str:
    """What each way takes and tells."""
    heads = (
        "",
        "In between",
        "Connections",
        "Round trips",
        f"Carried of {figures['bytes'] / 1e6:.0f} MB",
        "Server sees",
    )
    head = element("tr", *(element("th", text(name), scope="col") for name in heads))
    return element(
        "div", element("table", head, *(_line(way, figures["bytes"]) for way in figures["ways"])), class_="table"
    )


def _line(way: dict[str, Any], size: int) -> str:
    share = element("span", f"{way['carried'] / size:.0%}", class_="bad" if way["carried"] > size / 2 else None)
    hidden = not way["seen_client"].startswith("2001:")
    sees = element("span", text(way["seen_client"]), class_="mono bad" if hidden else "mono")
    cells = (text(way["title"]), text(way["middle"]), str(way["connections"]), str(way["round_trips"]), share, sees)
    numbers = (2, 3, 4)
    return element(
        "tr",
        *(element("td", cell, class_="number" if place in numbers else None) for place, cell in enumerate(cells)),
        class_=_class("", way),
    )


def trips(way: dict[str, Any]) -> str:
    """The round trips of a way in words."""
    return f"{way['round_trips']} round trip{'s' if way['round_trips'] != 1 else ''}"


def _class(name: str, way: dict[str, Any]) -> str:
    return f"{name} us".strip() if way["key"] == OURS else name
