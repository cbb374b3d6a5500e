"""DNS messages on a stream, over TCP or TLS (RFC 7766, RFC 7858): each after its length, answers as they come."""

from __future__ import annotations

from dnsvip.dns.io.framing import Framer, frame
from dnsvip.dns.io.ongoing import Ongoing
from dnsvip.dns.io.tcp import Stream
from dnsvip.dns.protocol.message import MAX_QUERY


class Messages:
    """What is spoken on one stream: `Application`. An answer that takes long holds up no later one; the others keep
    the order of their questions."""

    __slots__ = ("_framer", "_message", "_ongoing", "_stream", "_yields")

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._framer = Framer()
        self._message: bytes | None = None
        """One that has come alone, and nothing behind it."""
        self._ongoing: Ongoing[None] | None = None
        self._yields = False

    def feed(self, data: bytes) -> None:
        """Take what was read."""
        if self._message is not None:
            self._framer.feed(frame(self._message))
            self._message = None
        elif self._ongoing is None and (message := self._framer.whole(data)) is not None:
            self._message = message
            return
        self._framer.feed(data)

    def full(self) -> bool:
        """Whether more is held than one query can have, or as many answers are under way as may be."""
        framer, ongoing = self._framer, self._ongoing
        return (len(framer) > MAX_QUERY + 2 and framer.ready) or (ongoing is not None and ongoing.full)

    def busy(self) -> bool:
        """Whether answers are under way."""
        return bool(self._ongoing)

    def work(self) -> bool:
        """Answer one message, or take a step of a long answer, in turn; whether there may be more to do now."""
        alone = self._message
        if alone is not None:
            self._message = None
            self._answer(alone)
            return self._ongoing is not None and self._ongoing.steps
        ongoing, framer = self._ongoing, self._framer
        if ongoing is None:
            if (message := framer.next()) is not None:
                self._answer(message)
        else:
            self._yields = not self._yields
            if ongoing.steps and (self._yields or ongoing.full or not framer.ready):
                self._stream.touch()
                ongoing.step()
            elif not ongoing.full and (message := framer.next()) is not None:
                self._answer(message)
            if not ongoing:
                self._ongoing = None
        if framer.broken:
            self._stream.finish("bad_frames")
            return False
        ongoing = self._ongoing
        return framer.ready if ongoing is None else ongoing.steps or (framer.ready and not ongoing.full)

    def end(self) -> None:
        """The peer has sent all, and all is answered."""
        self._stream.finish("cut" if self._framer.partial else "")

    def stop(self) -> None:
        """The stream ends: there is nobody to answer any more."""
        self._message = None
        self._framer.clear()
        if self._ongoing is not None:
            self._ongoing.clear()

    def _answer(self, message: bytes) -> None:
        stream = self._stream
        stream.count("messages")
        stream.touch()
        answer = stream.respond(message, stream.source, stream.arrival)
        if isinstance(answer, bytes):
            stream.write(frame(answer))
        elif answer is not None:
            if self._ongoing is None:
                self._ongoing = Ongoing(self._send, stream.wake)
            self._ongoing.add(None, answer)

    def _send(self, _key: None, message: bytes | None) -> None:
        if message is not None:
            self._stream.touch()
            self._stream.write(frame(message))
