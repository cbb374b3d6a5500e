"""/decode: what an address says and whether it may open a flow, judged with this node's snapshot."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import Any

from aiohttp import web

from dnsvip.admin import bodies
from dnsvip.admin.collection import ROOT
from dnsvip.admin.node import NODE
from dnsvip.dispatcher.explain import judged
from dnsvip.dispatcher.judge import Judge
from dnsvip.errors import InvalidSite, Problem
from dnsvip.model import Snapshot
from dnsvip.spec import Plain

FIELDS = ("address", "source", "port")


class Judges:
    """The judge of the newest snapshot; made when it is asked for, kept until there is a newer one."""

    def __init__(self) -> None:
        self._made: tuple[Snapshot, Judge] | None = None

    def of(self, snapshot: Snapshot) -> Judge:
        """A judge of this snapshot."""
        if self._made is None or self._made[0] is not snapshot:
            self._made = snapshot, Judge(snapshot, self._made[1] if self._made else None)
        return self._made[1]


JUDGES = web.AppKey("judges", Judges)


async def by_query(request: web.Request) -> web.Response:
    """What the address in the query says."""
    return _decoded(request, dict(request.query))


async def by_body(request: web.Request) -> web.Response:
    """What the address in the body says."""
    return _decoded(request, await bodies.read_object(request))


def _decoded(request: web.Request, asked: Plain) -> web.Response:
    address, source, port = _read(asked)
    node = request.app[NODE]
    snapshot, now = node.snapshot(), node.now()
    judge = request.app[JUDGES].of(snapshot)
    found = judge.judge(int(address), int(source), port, now)
    steps = judge.explain(int(address), int(source), port, now)
    answer = judged(address, found, steps, judge.client(found.client))
    return bodies.answer({**answer, "generation": snapshot.generation})


def _read(asked: Plain) -> tuple[Any, Any, int]:
    problems = [
        Problem(f"decode.{key}", f"unknown key; known here: {', '.join(FIELDS)}") for key in asked.keys() - {*FIELDS}
    ]

    def field(key: str, default: Any, read: Callable[[Any], Any], right: str) -> Any:
        try:
            return read(asked[key]) if key in asked else default
        except ValueError:
            problems.append(Problem(f"decode.{key}", f"must be {right} (it is {asked[key]!r})"))

    if "address" not in asked:
        problems.append(Problem("decode.address", "missing; the address to decode"))
    address = field("address", None, _address, "an IPv6 or IPv4 address")
    source = field("source", IPv6Address(0), _address, "the address that the packet comes from")
    port = field("port", 0, _port, "the port that the packet comes from, 0 to 65535")
    if problems:
        raise InvalidSite(problems)
    return address, source, port


def _address(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError(value)
    return ip_address(value)


def _port(value: Any) -> int:
    number = int(str(value)) if str(value).isascii() and str(value).isdigit() and len(str(value)) < 6 else -1
    if not 0 <= number <= 65535:
        raise ValueError(value)
    return number


ROUTES = [web.get(f"{ROOT}/decode", by_query), web.post(f"{ROOT}/decode", by_body)]
