"""DNS over HTTPS (RFC 8484) by HTTP/2: one connection, a stream for each query."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

from dnsvip.client.io.encrypted import doh
from dnsvip.client.io.encrypted.credentials import ChannelError, Closed, Credentials, ResumingContext, broken
from dnsvip.client.io.encrypted.streams import MOST_WAITING, connected
from dnsvip.site.server_forms import ServerForm

ALPN = "h2"
READ = 1 << 16


@dataclass(slots=True, eq=False)
class _Exchange:
    """One query's stream."""

    answer: asyncio.Future[bytes]
    response: doh.Response = field(default_factory=doh.Response)


class HttpsChannel:
    """An open connection. `open` tells whether it takes queries; `offered` is called with what else the server says it
    speaks (Alt-Svc)."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        tls: ssl.SSLObject,
        context: ResumingContext,
        fields: doh.Fields,
        offered: Callable[[str], None],
    ) -> None:
        self._reader, self._writer, self._tls, self._context = reader, writer, tls, context
        self._fields, self._offered = fields, offered
        self._http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding=None))
        self._http.local_settings[h2.settings.SettingCodes.ENABLE_PUSH] = 0
        self._exchanges: dict[int, _Exchange] = {}
        self._changed = asyncio.Event()
        """Set with every frame, which may have made room for a stream or for data."""
        self.open, self.heard = True, 0
        self._http.initiate_connection()
        self._flush()
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def to(
        cls,
        server: ServerForm,
        context: ResumingContext,
        name: str,
        credentials: Credentials,
        fields: doh.Fields,
        offered: Callable[[str], None],
    ) -> HttpsChannel:
        """Connect; raises ChannelError."""
        reader, writer, tls = await connected(server, context, name, credentials)
        if tls.selected_alpn_protocol() != ALPN:
            writer.transport.abort()
            raise ChannelError("does not speak HTTP/2")
        return cls(reader, writer, tls, context, fields, offered)

    async def ask(self, wire: bytes) -> bytes:
        """The answer to a query, which goes with id 0 (section 4.1) and gets its own back; raises ChannelError."""
        sent = b"\0\0" + wire[2:]
        while self.open and self._http.open_outbound_streams >= self._most:
            await self._frame()
        if not self.open:
            raise Closed("closed the connection")
        exchange = _Exchange(asyncio.get_running_loop().create_future())
        try:
            stream = self._http.get_next_available_stream_id()
            self._http.send_headers(stream, [*self._fields, (b"content-length", b"%d" % len(sent))])
        except h2.exceptions.ProtocolError as error:
            self.open = False
            raise ChannelError(f"HTTP/2: {error}") from None
        self._exchanges[stream] = exchange
        try:
            await self._send(stream, sent)
            return wire[:2] + (await exchange.answer)[2:]
        except (OSError, h2.exceptions.ProtocolError) as error:
            raise broken(error) from None
        finally:
            del self._exchanges[stream]
            exchange.answer.cancel()
            self._forget(stream)

    def close(self) -> None:
        """End it; whoever waits gets ChannelError."""
        self._listening.cancel()
        self._end(Closed("closed the connection"))

    @property
    def _most(self) -> int:
        return min(MOST_WAITING, self._http.remote_settings.max_concurrent_streams)

    async def _frame(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def _send(self, stream: int, data: bytes) -> None:
        """Send a body, as much at a time as the server takes."""
        while data and self.open and stream in self._exchanges:
            some = min(self._http.local_flow_control_window(stream), self._http.max_outbound_frame_size, len(data))
            if not some:
                await self._frame()
                continue
            self._http.send_data(stream, data[:some], end_stream=some == len(data))
            data = data[some:]
            self._flush()
        await self._writer.drain()

    def _forget(self, stream: int) -> None:
        """Tell the server that nobody waits for a stream any more, where it is still open."""
        try:
            self._http.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
        except h2.exceptions.ProtocolError:
            return
        if self.open:
            self._flush()

    def _flush(self) -> None:
        if data := self._http.data_to_send():
            self._writer.write(data)

    async def _listen(self) -> None:
        end, idle = Closed("closed the connection"), 0
        try:
            while data := await self._reader.read(READ):
                idle += len(data)
                for event in self._http.receive_data(data):
                    if self._take(event):
                        idle = 0
                    if isinstance(event, h2.events.ConnectionTerminated):
                        self._leave(event)
                self._flush()
                self._changed.set()
                if idle > doh.MOST_IDLE_BYTES:
                    end = Closed("sends much and answers nothing")
                    break
        except h2.exceptions.ProtocolError as error:
            end = Closed(f"HTTP/2: {error}")
        except OSError as error:
            end = broken(error)
        finally:
            self._end(end)

    def _take(self, event: h2.events.Event) -> bool:
        """Take an event of a stream; whether it ended an answer."""
        stream = getattr(event, "stream_id", None)
        if isinstance(event, h2.events.DataReceived):
            self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        exchange = self._exchanges.get(stream or 0)
        if exchange is None or exchange.answer.done():
            return False
        try:
            if isinstance(event, h2.events.ResponseReceived):
                self._begin(exchange.response, event)
            elif isinstance(event, h2.events.DataReceived):
                exchange.response.add(event.data)
            elif isinstance(event, h2.events.StreamReset):
                raise ChannelError("refuses the query (HTTP/2 stream reset)")
            elif isinstance(event, h2.events.StreamEnded):
                self.heard += 1
                self._context.session = self._tls.session or self._context.session
                exchange.answer.set_result(exchange.response.message())
        except ChannelError as error:
            exchange.answer.set_exception(error)
        return isinstance(event, h2.events.StreamEnded)

    def _begin(self, response: doh.Response, event: h2.events.ResponseReceived) -> None:
        response.begin((bytes(name), bytes(value)) for name, value in event.headers)
        if alt_svc := response.fields.get(b"alt-svc"):
            self._offered(alt_svc.decode("latin-1"))

    def _leave(self, event: h2.events.ConnectionTerminated) -> None:
        """The server takes no more queries, and answers those up to a stream (RFC 9113 section 6.8)."""
        self.open = False
        last = 0 if event.error_code else event.last_stream_id or 0
        self._fail(Closed("closed the connection"), [stream for stream in self._exchanges if stream > last])

    def _fail(self, end: Closed, streams: Iterable[int]) -> None:
        for stream in streams:
            if not self._exchanges[stream].answer.done():
                self._exchanges[stream].answer.set_exception(end)

    def _end(self, end: Closed) -> None:
        self._context.ended(self._tls, self.heard)
        self.open = False
        self._fail(end, self._exchanges)
        self._changed.set()
        self._writer.transport.abort()
