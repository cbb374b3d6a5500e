"""DNS over HTTPS on a stream (RFC 8484): requests to DNS messages, answers to responses.

One request is answered in a turn, as with every other stream, and answers that take long go on side by side. What a
request's token proves counts for that request alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, TypeAlias

from dnsvip.dns.doh.frames import MAX_FRAME
from dnsvip.dns.doh.http1 import Http1
from dnsvip.dns.doh.http2 import Http2
from dnsvip.dns.doh.request import MISDIRECTED, NO_QUERY, UNKNOWN_TOKEN, Head, Problem, Request, message_of
from dnsvip.dns.doh.response import Response, answered, refused
from dnsvip.dns.identity.arrival import Arrival
from dnsvip.dns.io.ongoing import Ongoing
from dnsvip.dns.io.responder import Later
from dnsvip.dns.io.tcp import Stream
from dnsvip.dns.io.tls import TokenOf

if TYPE_CHECKING:  # it is made of what is here
    from dnsvip.dns.io.quic.http3 import Http3, Http3Session

MOST_HELD = 2 * MAX_FRAME
"""Bytes of requests that wait, beyond which no more is read: one frame is always complete in them."""

Respond: TypeAlias = Callable[
    [bytes, IPv4Address | IPv6Address, Arrival], tuple[bytes | Iterator[bytes] | Later | None, bool]
]
"""(message, source, arrival) -> the response, as `application.Respond`, and whether it is for its requester alone."""


@dataclass(frozen=True, slots=True)
class Service:
    """What all streams share: who answers, and whose token a text is. `alternative` is where else the same is answered,
    which the first response of a connection says (Alt-Svc, RFC 7838)."""

    respond: Respond
    token_of: TokenOf
    alternative: bytes = b""

    def http2(self, stream: Stream) -> Https:
        """Speak HTTP/2 on a stream."""
        return Https(stream, Http2(), self)

    def http1(self, stream: Stream) -> Https:
        """Speak HTTP/1.1 on a stream."""
        return Https(stream, Http1(), self)


class Https:
    """What is spoken on one stream: `Application`."""

    __slots__ = ("_due", "_http", "_known", "_named", "_ongoing", "_service", "_stream", "_told", "_yields")

    def __init__(self, stream: Stream | Http3Session, http: Http1 | Http2 | Http3, service: Service) -> None:
        self._stream, self._http, self._service = stream, http, service
        self._named = stream.token
        self._known: Arrival | None = None
        self._told = not service.alternative
        self._ongoing: Ongoing[int] | None = None
        self._due: dict[int, Head] = {}
        self._yields = False
        self._flush()

    def feed(self, data: bytes) -> None:
        """Take what was read."""
        self._http.feed(data)

    def full(self) -> bool:
        """Whether more is held than one request needs."""
        return len(self._http) > MOST_HELD

    def busy(self) -> bool:
        """Whether answers are under way; those that wait for the peer to read are not."""
        return bool(self._ongoing)

    def work(self) -> bool:
        """Answer one request, or take a step of a long answer, in turn; whether there may be more to do now."""
        ongoing, http = self._ongoing, self._http
        self._yields = not self._yields
        if ongoing is not None and ongoing.steps and (self._yields or ongoing.full or not http.ready):
            self._stream.touch()
            ongoing.step()
        elif http.ready and not (ongoing is not None and ongoing.full) and (request := http.next()) is not None:
            self._answer(request)
        self._flush()
        if http.closing:
            self._stream.finish("bad_http" if http.why else "")
            return False
        if ongoing is not None and not ongoing:
            self._ongoing = ongoing = None
        return http.ready if ongoing is None else ongoing.steps or (http.ready and not ongoing.full)

    def end(self) -> None:
        """The peer has sent all, and all is answered."""
        self._stream.finish()

    def stop(self) -> None:
        """The stream ends: there is nobody to answer any more."""
        self._http.close()
        self._flush()
        if self._ongoing is not None:
            self._ongoing.clear()

    def _flush(self) -> None:
        if out := self._http.take():
            self._stream.write(out)

    def _answer(self, request: Request) -> None:
        asked, stream = request.asked, self._stream
        problem = asked if isinstance(asked, Problem) else self._respond(request.stream, asked, request.body)
        if problem is not None:
            stream.count("problems")
            self._reply(request.stream, refused(problem._replace(bodyless=asked.bodyless)))

    def _reply(self, key: int, response: Response) -> None:
        if not self._told:
            self._told = True
            response = response._replace(fields=(*response.fields, (b"alt-svc", self._service.alternative)))
        self._http.answer(key, response, time.time())

    def _respond(self, key: int, asked: Head, body: bytes) -> Problem | None:
        """Answer the message of a request, or have it answered later; or what is wrong with it."""
        arrival, message, stream = self._arrival(asked), message_of(asked, body), self._stream
        if isinstance(arrival, Problem):
            return arrival
        if isinstance(message, Problem):
            return message
        stream.count("messages")
        stream.touch()
        answer, private = self._service.respond(message, stream.source, arrival)
        if answer is None:
            return NO_QUERY
        if isinstance(answer, bytes):
            self._reply(key, answered(answer, private=private, bodyless=asked.bodyless))
            return None
        if self._ongoing is None:
            self._ongoing = Ongoing(self._send, stream.wake)
        self._due[key] = asked
        self._ongoing.add(key, answer)
        return None

    def _send(self, key: int, message: bytes | None) -> None:
        """Answer with the first message; whatever took so long is for its requester alone."""
        asked = self._due.pop(key, None)
        if asked is None:
            return
        self._stream.touch()
        if message is None:
            self._http.drop(key)
        else:
            self._reply(key, answered(message, private=True, bodyless=asked.bodyless))
        self._flush()

    def _arrival(self, asked: Head) -> Arrival | Problem:
        """How a request arrived: its own token counts before that of the name the connection is for, and a connection
        that is for a token's name takes no requests for others (RFC 9110 section 7.4)."""
        stream = self._stream
        if asked.token is None:
            named = not (self._named and asked.host) or asked.host.lower().partition(".")[0] == self._named
            return stream.arrival if named else MISDIRECTED
        name = self._service.token_of(asked.token, stream.source)
        if name is None:
            stream.count("token_refused")
            return UNKNOWN_TOKEN
        if self._known is None or self._known.token != name:
            self._known = stream.arrival._replace(token=name)
        return self._known
