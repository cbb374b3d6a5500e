"""A drawing of the demo's hosts and links, with the ways of a query, a first packet, an answer and a forgery."""

from __future__ import annotations

from dnsvip.demo.page.markup import drawing, element, label, line
from dnsvip.demo.topology import EDGE, FAST, SLOW

WIDE, HIGH = 152, 46
PLACES: dict[str, tuple[float, float, str]] = {  # host: (x, y, what it is)
    "client-gold": (0, 28, EDGE["client-gold"][0]),
    "client-plain": (0, 138, EDGE["client-plain"][0]),
    "resolver": (0, 248, "unbound, reports ECS"),
    "router": (264, 138, "routes the prefix"),
    "dispatcher": (470, 28, "DNS, API, dispatcher"),
    "dispatcher-2": (470, 248, "takes over"),
    "fast-1": (768, 28, FAST["fast-1"]),
    "slow-1": (768, 138, SLOW["slow-1"]),
    "slow-2": (768, 248, SLOW["slow-2"]),
}
SEGMENT = 700
KINDS = {"client-gold": "box gold", "dispatcher": "box us", "dispatcher-2": "box us"}


def world(delay_ms: int) -> str:
    """The drawing; client-gold's link takes so many milliseconds each way."""
    links = [
        _between("client-gold", "router"),
        _between("client-plain", "router"),
        _between("resolver", "router"),
        _between("router", "dispatcher"),
        _between("router", "dispatcher-2"),
        *(
            line(PLACES[name][0] + WIDE, _middle(name), SEGMENT, _middle(name), "link")
            for name in ("dispatcher", "dispatcher-2")
        ),
        line(PLACES["router"][0] + WIDE, _middle("router"), SEGMENT, _middle("router"), "link"),
        *(line(SEGMENT, _middle(name), PLACES[name][0], _middle(name), "link") for name in (*FAST, *SLOW)),
        line(SEGMENT, _middle("fast-1"), SEGMENT, _middle("slow-2"), "link"),
    ]
    flows = [
        _flow("M0 51 H-18 V271 H-6", "dns"),
        _flow("M152 264 L258 178", "dns"),
        _flow("M382 138 L480 74", "dns"),
        _flow("M152 44 L290 132", "first"),
        _flow("M356 138 L464 62", "first"),
        _flow("M622 44 H762", "first"),
        _flow("M768 62 H712 V152 H422", "answer"),
        _flow("M276 138 L152 60", "answer"),
        _flow("M152 161 H258", "forged"),
        _flow("M404 138 L492 91", "forged"),
        element("circle", cx=500, cy=87, r=9, fill="var(--bad)"),
        label(500, 91.5, "\N{MULTIPLICATION SIGN}", "strong cross", "middle"),
    ]
    words = [
        label(226, 72, f"{delay_ms} ms each way", "small soft"),
        label(SEGMENT - 6, 316, "server segment", "small soft", "middle"),
    ]
    boxes = [_box(name) for name in PLACES]
    heads = element("defs", *(_head(name) for name in ("dns", "first", "answer", "forged")))
    everything = element("g", *links, *flows, *boxes, *words, transform="translate(22 0)")
    return drawing(
        944, 326, "The hosts of the demo, and how packets go between them", heads, everything, class_="world"
    )


def _head(name: str) -> str:
    """The head of an arrow."""
    drawn = element("path", d="M0 0 L8 4 L0 8 Z", class_=f"head {name}")
    return element(
        "marker",
        drawn,
        id=name,
        markerWidth=8,
        markerHeight=8,
        refX=6,
        refY=4,
        orient="auto",
        markerUnits="userSpaceOnUse",
    )


def _middle(name: str) -> float:
    return PLACES[name][1] + HIGH / 2


def _between(one: str, other: str) -> str:
    return line(PLACES[one][0] + WIDE, _middle(one), PLACES[other][0], _middle(other), "link")


def _flow(d: str, class_: str) -> str:
    return element("path", d=d, class_=f"flow {class_}", marker_end=f"url(#{class_})")


def _box(name: str) -> str:
    x, y, what = PLACES[name]
    frame = element("rect", x=x + 1, y=y, width=WIDE - 2, height=HIGH, rx=9, class_=KINDS.get(name, "box"))
    return frame + label(x + 12, y + 19, name, "strong") + label(x + 12, y + 36, what, "mono soft")
