"""Probes of one server: a TCP connection, an HTTP request, an agent's line, each within the check's timeout.

A probe never raises for what the server does; its result names the problem in a few words.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import ssl
from collections.abc import Awaitable
from dataclasses import dataclass
from functools import lru_cache

import aiohttp

from dnsvip.dispatcher.health.agent import LONGEST_LINE, Report, parse_report
from dnsvip.site import Address, Check

MOST_HEADERS = 8190


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a probe; only an agent has a `report`."""

    passed: bool
    note: str = ""
    report: Report | None = None


async def probe_tcp(address: Address, check: Check) -> Result:
    """Passes if a connection can be opened."""
    return await _within(check, _connect(str(address), check.tcp or 0))


async def probe_http(address: Address, check: Check) -> Result:
    """Passes if a GET gets a 2xx or 3xx; reads no body, follows no redirect, uses no proxy."""
    return await _within(check, _request(address, check))


async def probe_agent(address: Address, check: Check) -> Result:
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
    except (OSError, aiohttp.ClientError, ValueError) as error:
        return Result(passed=False, note=_described(error))


def _described(error: Exception) -> str:
    """An error in a few words; aiohttp wraps those of the system and of TLS."""
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"certificate: {cause.verify_message}"
    if isinstance(cause, OSError) and cause.errno and cause.errno in errno.errorcode:
        return os.strerror(cause.errno)
    if isinstance(cause, aiohttp.ClientError):  # its text quotes what the other side says, which may be a secret
        return "the answer is not HTTP"
    return str(cause) or type(cause).__name__


async def _connect(address: str, port: int) -> Result:
    _, writer = await asyncio.open_connection(address, port)
    writer.close()
    return Result(passed=True)


async def _request(address: Address, check: Check) -> Result:
    headers = {"Host": check.host} if check.host else {}
    connector = aiohttp.TCPConnector(force_close=True, use_dns_cache=False)
    async with (
        aiohttp.ClientSession(
            connector=connector, trust_env=False, max_line_size=MOST_HEADERS, cookie_jar=aiohttp.DummyCookieJar()
        ) as session,
        session.get(
            _own_url(address, check),
            headers={"User-Agent": "dnsvip-check", **headers},
            allow_redirects=False,
            ssl=_context(check.verify, check.ca),
            server_hostname=check.host,
        ) as response,
    ):
        passed = 200 <= response.status < 400
        return Result(passed, "" if passed else f"HTTP {response.status}")


@lru_cache(64)
def _context(verify: bool, ca: str | None) -> ssl.SSLContext:
    """Verifies certificate and name against the given authorities or the system's; with verify = false nothing."""
    context = ssl.create_default_context(cadata=ca)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


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
