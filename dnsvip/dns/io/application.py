"""What is spoken on a stream, as the stream sees it; and what all streams of a listener have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Protocol, TypeAlias

from dnsvip.dns.identity.arrival import Arrival, Transport
from dnsvip.dns.io.responder import Later
from dnsvip.dns.io.tls import Terminator

if TYPE_CHECKING:  # it is made of what is here
    from dnsvip.dns.io.tcp import Stream

Respond: TypeAlias = Callable[[bytes, IPv4Address | IPv6Address, Arrival], bytes | Iterator[bytes] | Later | None]
"""(message, source, arrival) -> the response, None for none; an iterator of its messages for a zone transfer and
what takes long, in which empty ones are pauses; a future of the response to an update."""


class Application(Protocol):
    """What is spoken on one stream. It belongs to that stream, which it writes to and asks for turns (`Stream.write`,
    `wake`), and tells of each query (`touch`) and of its end (`finish`)."""

    def feed(self, data: bytes) -> None:
        """Take what was read. Nothing is answered here: a turn follows."""

    def full(self) -> bool:
        """Whether it holds more than it should: no more is read until its turn is over."""

    def busy(self) -> bool:
        """Whether answers are under way: the stream is not idle."""

    def work(self) -> bool:
        """Answer one message, or take a step of a long answer; whether there may be more to do now."""

    def end(self) -> None:
        """The peer has sent all, and all is answered: it calls `Stream.finish`."""

    def stop(self) -> None:
        """The stream ends now; last words may still be written."""


class Counted(dict[str, str]):
    """Events of a transport -> the names that they are counted by, made once each."""

    def __init__(self, transport: Transport) -> None:
        super().__init__()
        self._transport = transport

    def __missing__(self, event: str) -> str:
        name = self[event] = f"{self._transport}_{event}"
        return name


@dataclass(frozen=True, slots=True)
class Listening:
    """What streams of one listener have in common. `speaks` makes the application of what ALPN has chosen, None where
    nothing was; `tls` is None for streams in the clear."""

    arrival: Arrival
    respond: Respond
    speaks: Mapping[str | None, Callable[[Stream], Application]]
    tls: Terminator | None = None
    counted: Counted = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "counted", Counted(self.arrival.transport))
