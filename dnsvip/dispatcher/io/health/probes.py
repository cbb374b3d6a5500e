"""Probes of one server: a TCP connection, an HTTP request, an agent's line, each within the check's timeout.

A probe never raises for what the server does; its result names the problem in a few words.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import ssl
from collections import OrderedDict
from collections.abc import Awaitable
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from dnsvip.dispatcher.health.agent import LONGEST_LINE, Report, parse_report
from dnsvip.site import Address, Check

MOST_ANSWER = 1 << 14
"""Bytes of an HTTP answer that are read, interim responses included: probes run beside packets, and an endless answer
must not take their time."""

NO_HTTP = "the answer is not HTTP"
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?\r?\n")
_KEPT = "/%:@!$&'()*+,;=-._~?"
"""What stays as it is in the path and query of a URL (RFC 3986 section 3.3)."""


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a probe; only an agent has a `report`."""

    passed: bool
    note: str = ""
    report: Report | None = None


async def probe_tcp(address: Address, check: Check, _: Contexts | None = None) -> Result:
    """Passes if a connection can be opened."""
    return await _within(check, _connect(str(address), check.tcp or 0))


async def probe_http(address: Address, check: Check, contexts: Contexts | None = None) -> Result:
    """Passes if a GET gets a 2xx or 3xx; reads no body, follows no redirect, uses no proxy."""
    return await _within(check, _request(address, check, contexts or Contexts()))


async def probe_agent(address: Address, check: Check, _: Contexts | None = None) -> Result:
    """Passes if the agent sends a valid line."""
    return await _within(check, _listen(str(address), check.agent or 0))


def url_of(address: Address, check: Check) -> str:
    """The URL of an HTTP check for one server; only an IPv6 address is in brackets."""
    host = _host(address)
    template = (check.http or "").replace("[{address}]", "{address}", 1)
    return template.replace("{address}", host, 1).replace("{address}", str(address))


def _own_url(address: Address, check: Check) -> str:
    """The same, if it asks the server itself; raises ValueError for a check of an older version that does not."""
    url = url_of(address, check)
    if not re.match(rf"https?://{re.escape(_host(address))}(:[0-9]{{1,5}})?([/?#]|$)", url):
        raise ValueError("the URL is not one of the server")
    return url


def _host(address: Address) -> str:
    return f"[{address}]" if address.version == 6 else str(address)


async def _within(check: Check, work: Awaitable[Result]) -> Result:
    try:
        async with asyncio.timeout(check.timeout):
            return await work
    except TimeoutError:
        return Result(passed=False, note=f"no answer within {check.timeout:g} s")
    except (OSError, ValueError) as error:
        return Result(passed=False, note=_described(error))


def _described(error: Exception) -> str:
    """An error in a few words, none of them what the other side says, which may be a secret."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {(error.reason or 'failed').replace('_', ' ').lower()}"
    if isinstance(error, OSError) and error.errno and error.errno in errno.errorcode:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__


async def _connect(address: str, port: int) -> Result:
    _, writer = await asyncio.open_connection(address, port)
    writer.close()
    return Result(passed=True)


async def _request(address: Address, check: Check, contexts: Contexts) -> Result:
    parts = urlsplit(_own_url(address, check))
    tls = parts.scheme == "https"
    context = await contexts.of(check) if tls else None
    reader, writer = await asyncio.open_connection(
        str(address),
        parts.port or (443 if tls else 80),
        ssl=context,
        server_hostname=(check.host or str(address)) if tls else None,
        limit=MOST_ANSWER,
    )
    try:
        target = quote(f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}", safe=_KEPT)
        head = (f"GET {target} HTTP/1.1", f"Host: {check.host or parts.netloc}", "User-Agent: dnsvip-check")
        writer.write("\r\n".join((*head, "Accept: */*", "Connection: close", "", "")).encode())
        status = await _status(reader)
    finally:
        writer.transport.abort()  # TLS would wait half a minute for the server to say goodbye, with a descriptor each
    passed = 200 <= status < 400
    return Result(passed, "" if passed else f"HTTP {status}")


async def _status(reader: asyncio.StreamReader) -> int:
    """The status of the final response; interim ones (RFC 9110 section 15.2) are passed over. Raises ValueError for
    what is no HTTP, or begins no final response within MOST_ANSWER bytes."""
    left = MOST_ANSWER
    begins = True
    status = 0
    while left > 0:
        try:
            line = await reader.readline()
        except ValueError:  # longer than the limit
            break
        left -= len(line)
        if begins:
            match = _STATUS.fullmatch(line)
            status = int(match[1]) if match else 0
            if status >= 200:
                return status
        begins = not line.strip()
        if not line or not status:
            break
    raise ValueError(NO_HTTP)


class Contexts:
    """TLS contexts of checks, of which those that were used last are kept. Authorities of a check are read one by one:
    packets wait for each, some tenths of a millisecond. One event loop."""

    def __init__(self, most: int = 64) -> None:
        self._most = most
        self._kept: OrderedDict[tuple[bool, str | None], ssl.SSLContext] = OrderedDict()
        self._turn = asyncio.Lock()

    async def of(self, check: Check) -> ssl.SSLContext:
        """Verifies certificate and name against the check's authorities or the system's; with verify = false
        nothing."""
        key = check.verify, check.ca if check.verify else None
        context = self._kept.get(key)
        if context is None:
            async with self._turn:
                context = self._kept.get(key) or await self._made(*key)
        self._kept[key] = context
        self._kept.move_to_end(key)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return context

    async def _made(self, verify: bool, authorities: str | None) -> ssl.SSLContext:
        if verify and authorities is None:
            return await asyncio.to_thread(ssl.create_default_context)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if not verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        for one in _CERTIFICATE.findall(authorities or ""):
            context.load_verify_locations(cadata=one)
            await asyncio.sleep(PAUSE_SECONDS)
        return context


_CERTIFICATE = re.compile("-----BEGIN (?:X509 )?CERTIFICATE-----.*?-----END [A-Z0-9 ]*-----", re.DOTALL)
PAUSE_SECONDS = 0.001
"""Between two certificates that are read."""


async def _listen(address: str, port: int) -> Result:
    reader, writer = await asyncio.open_connection(address, port, limit=LONGEST_LINE)
    try:
        line = await _line(reader)
    finally:
        writer.close()
    report = parse_report(line) if line.strip() else None
    return Result(report is not None, "" if report else "says what is not of the agent protocol", report)


async def _line(reader: asyncio.StreamReader) -> bytes:
    """Up to the end of the line or of the connection, LONGEST_LINE bytes at most."""
    line = b""
    while len(line) < LONGEST_LINE and b"\n" not in line:
        chunk = await reader.read(LONGEST_LINE - len(line))
        if not chunk:
            break
        line += chunk
    return line
