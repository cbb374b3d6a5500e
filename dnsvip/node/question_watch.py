"""What `dnsvip watch --questions` sees of a DNS process: `state_dir/dns-PID.sock`, for this user only (mode 0600).

A client writes one line, a JSON object with `match`, and reads lines of JSON: `{"dns": 1}`, the protocol version,
`{"watching": true}`, then questions with their answers, and how many were not shown; or `{"error": ...}`. While nobody
watches, nothing is done for it. With more than MOST_SEEN questions a second it sees one of two, of four and so on.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from dnsvip.dns.querylog import Sample, record
from dnsvip.dns.reply import DnsOutcome
from dnsvip.errors import ConfigError, DnsvipError
from dnsvip.suggestion import did_you_mean
from dnsvip.telemetry.local_socket import bound, until_hangup, write

if TYPE_CHECKING:  # who watches needs no server
    from dnsvip.dns.io.server import DnsServer

SOCKETS = "dns-*.sock"
"""Their names in state_dir, one for each process."""
VERSION = 1
ASK_SECONDS = 2.0
MOST_CLIENTS = 16
MOST_NAMED = 60
"""Words that a refusal says there are."""
QUEUE = 1000
"""Questions queued for a client."""
MOST_SEEN = 2000
"""Questions a second that are looked at."""
THINNING_SECONDS = 0.5

log = structlog.get_logger()

Sink = Callable[[Sample], None]


@asynccontextmanager
async def watched(server: DnsServer, folder: Path) -> AsyncIterator[None]:
    """Serve the socket of this process in a folder while the context lasts; without it where it cannot be bound."""
    watch = QuestionWatch(server)
    path = folder / SOCKETS.replace("*", str(os.getpid()))
    _remove_stale(folder)
    try:
        listening = await asyncio.start_unix_server(watch.connected, sock=bound(path))
    except (DnsvipError, OSError) as error:
        log.warning("dnsvip watch --questions sees nothing of this process", error=str(error))
        yield
        return
    try:
        yield
    finally:
        listening.close()
        watch.close()
        with suppress(OSError):
            path.unlink()


class QuestionWatch:
    """The questions of a server, for those who watch: a log of its own that samples more or less."""

    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._sinks: list[Sink] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._thinning: asyncio.TimerHandle | None = None
        self._one_in = 1
        self._seen = self.unseen = self._thinned = 0
        self._at = 0.0

    def offer(self, sample: Sample) -> None:
        """Show a sample to all that watch, unless there were too many lately."""
        self._seen += 1
        if self._seen - self._thinned > MOST_SEEN * THINNING_SECONDS:
            self.unseen += 1
            return
        for sink in self._sinks:
            sink(sample)

    def lose(self, number: int) -> None:
        """Count samples as not shown that were lost on their way here."""
        self.unseen += number * self._one_in

    def counts(self) -> dict[str, int]:
        """As every log."""
        return {"written": self._seen, "dropped": self.unseen}

    def watch(self, sink: Sink) -> Callable[[], None]:
        """Show questions to a sink until the result is called."""
        self._sinks.append(sink)
        if len(self._sinks) == 1:
            self._thinned = self._seen
            self._sample(1)
            self._thin()

        def stop() -> None:
            self._sinks.remove(sink)
            if not self._sinks:
                self._server.sample("watch", None)
                if self._thinning is not None:
                    self._thinning.cancel()

        return stop

    def _thin(self) -> None:
        """See fewer questions from now on, or more, by how many there are, whether or not those who watch read them."""
        self._thinning = asyncio.get_running_loop().call_later(THINNING_SECONDS, self._thin)
        now = time.monotonic()
        seen = self._seen - self._thinned
        rate, self._thinned, self._at = seen / max(now - self._at, THINNING_SECONDS), self._seen, now
        self.unseen += seen * (self._one_in - 1)
        if rate > MOST_SEEN:
            self._sample(self._one_in * 2)
        elif rate < MOST_SEEN / 4 and self._one_in > 1:
            self._sample(self._one_in // 2)

    def _sample(self, one_in: int) -> None:
        self._one_in, self._at = one_in, time.monotonic()
        self._server.sample("watch", self, one_in)

    def close(self) -> None:
        """Hang up on everybody."""
        for task in self._tasks:
            task.cancel()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - this is one
        self._tasks.add(task)
        try:
            with suppress(ConnectionError, TimeoutError, asyncio.CancelledError):
                await self._serve(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(ASK_SECONDS):
            line = await reader.readline()
        await write(writer, {"dns": VERSION})
        try:
            if len(self._tasks) > MOST_CLIENTS:
                raise ConfigError(f"this server already serves {MOST_CLIENTS} clients")
            await until_hangup(self._showing(matching(line, self._server.engine.tiers), writer), reader)
        except DnsvipError as error:
            await write(writer, {"error": str(error)})

    def _showing(self, matches: Matches, writer: asyncio.StreamWriter) -> Coroutine[Any, Any, None]:
        queue, lost = deque[Mapping[str, Any]](), 0

        def sink(sample: Sample) -> None:
            nonlocal lost
            if len(queue) >= QUEUE:
                lost += 1
            elif (document := question(sample, self._server.engine.session_bases)) and matches(document, sample):
                queue.append(document)

        async def show() -> None:
            nonlocal lost
            stop, unseen = self.watch(sink), self.unseen
            try:
                await write(writer, {"watching": True})
                while True:
                    await asyncio.sleep(0.05)
                    while queue:
                        await write(writer, {"question": queue.popleft()})
                    if lost or self.unseen != unseen:
                        await write(writer, {"lost": lost, "unseen": self.unseen - unseen})
                        lost, unseen = 0, self.unseen
            finally:
                stop()

        return show()


Matches = Callable[[Mapping[str, Any], Sample], bool]


def question(sample: Sample, secret: Any = ()) -> Mapping[str, Any]:
    """A question and its answer as a line: that of the query log, with the whole address, and what is counted."""
    reply = sample.reply
    return {
        **record(sample, str, secret),
        "outcome": reply.outcome.value,
        "vip": reply.kind and reply.kind.value,
        "tier": reply.tier,
        "in_kernel": sample.in_kernel,
    }


def matching(line: bytes, tiers: Collection[str]) -> Matches:
    """What a request wants to see: of a name and those below it, or a source; of one of the tiers, an outcome. Raises
    ConfigError."""
    try:
        wanted = json.loads(line)["match"]
        what, others = wanted.pop("what", None), dict(wanted)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError("a request must be one line of JSON, an object with match") from None
    if unknown := others.keys() - {"tier", "outcome"}:
        raise ConfigError(f"questions have no {', '.join(sorted(unknown))}")
    if not all(value is None or isinstance(value, str) for value in (what, *others.values())):
        raise ConfigError("what to see must be text")
    _check_known(others.get("outcome"), "an outcome", [each.value for each in DnsOutcome])
    _check_known(others.get("tier"), "a tier", tiers)
    network = _network(what)
    name = "" if what is None else str(what).lower().rstrip(".") + "."

    def matches(document: Mapping[str, Any], sample: Sample) -> bool:
        if any(document[key] != value for key, value in others.items()):
            return False
        if network is not None:
            return sample.source in network
        asked = str(document.get("qname", "")).lower()
        return not name or asked == name or asked.endswith("." + name)

    return matches


def _check_known(word: str | None, what: str, known: Collection[str]) -> None:
    if word is not None and word not in known:
        there = ", ".join(list(known)[:MOST_NAMED]) or "none"
        raise ConfigError(f"{word!r} is not {what}{did_you_mean(word, known)} (there is: {there})")


def _network(what: object) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(str(what))
    except ValueError:
        return None


def _remove_stale(folder: Path) -> None:
    """Remove the sockets of processes that were killed."""
    for path in folder.glob(SOCKETS):
        with socket.socket(socket.AF_UNIX) as trial, suppress(OSError):
            trial.settimeout(ASK_SECONDS)
            try:
                trial.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()
