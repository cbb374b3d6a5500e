"""What is lost at UDP ports by all processes that share them: the kernel says it of every socket (sock_diag(7))."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address
from struct import Struct
from typing import NamedTuple

import structlog

from dnsvip.dns.io.listen import Endpoint
from dnsvip.dns.io.server import DnsServer, Load
from dnsvip.dns.io.udp import MEMORY

_SOCK_DIAG, _BY_FAMILY, _DUMP, _DONE, _ERROR = 4, 20, 0x301, 3, 2
_MEMINFO = 7
"""The attribute with the numbers of SO_MEMINFO."""
_HEAD, _ASKED, _SOCKET, _ATTRIBUTE = Struct("=IHHII"), Struct("=BBBxI2s46x"), Struct("=8x16s20x8s20x"), Struct("=HH")
_NUMBER = Struct("=i")
_ANY_STATE, _BUFFER = 0xFFFF_FFFF, 1 << 16

log = structlog.get_logger()


class _Socket(NamedTuple):
    """A socket by its cookie: the address that it has, bytes that wait in it, and datagrams that it had no room for."""

    cookie: bytes
    address: bytes
    held: int
    lost: int


class PortLosses:
    """Of the sockets of some endpoints, whosever they are."""

    def __init__(self) -> None:
        self._known: Mapping[bytes, int] | None = None
        self._lost = 0

    def look(self, endpoints: Iterable[Endpoint]) -> tuple[int, int]:
        """Datagrams that were lost since the first look, and bytes in the fullest buffer. Raises OSError where the
        kernel does not say."""
        sockets = {each.cookie: each for endpoint in endpoints for each in _sockets(endpoint)}
        lost = {cookie: each.lost for cookie, each in sockets.items()}
        before = lost if self._known is None else self._known
        self._lost += sum(number - before.get(cookie, 0) for cookie, number in lost.items())
        self._known = lost
        return self._lost, max((each.held for each in sockets.values()), default=0)


class SharedLoad:
    """How a server keeps up together with the other workers at its ports."""

    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._losses = PortLosses() if server.workers > 1 else None
        self._lost = 0

    def read(self) -> Load:
        """The server's load, with what any worker has lost, and holds."""
        load, held = self._server.load(), 0
        if self._losses is not None:
            try:
                self._lost, held = self._losses.look(self._server.endpoints)
            except OSError as error:
                log.warning("cannot see what other workers lose", error=str(error), advice="load the module udp_diag")
                self._losses = None
        return load._replace(lost=load.lost + self._lost, held=max(load.held, held))


def _sockets(endpoint: Endpoint) -> Iterator[_Socket]:
    if endpoint.scheme:  # no plain UDP
        return
    address = ip_address(endpoint.host).packed.ljust(16, b"\0")
    family = socket.AF_INET if "." in endpoint.host else socket.AF_INET6
    body = _ASKED.pack(family, socket.IPPROTO_UDP, 1 << _MEMINFO - 1, _ANY_STATE, endpoint.port.to_bytes(2, "big"))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _SOCK_DIAG) as kernel:
        kernel.send(_HEAD.pack(_HEAD.size + len(body), _BY_FAMILY, _DUMP, 0, 0) + body)
        for message in _messages(kernel):
            found = _read(message)
            if found.address == address:
                yield found


def _messages(kernel: socket.socket) -> Iterator[bytes]:
    """The answers to a request for all that there is."""
    while True:
        data, at = kernel.recv(_BUFFER), 0
        while at < len(data):
            length, kind, *_ = _HEAD.unpack_from(data, at)
            body = data[at + _HEAD.size : at + length]
            if kind == _DONE:
                return
            if kind == _ERROR:
                raise OSError(-_NUMBER.unpack_from(body)[0], "sock_diag")
            yield body
            at += length + 3 & ~3


def _read(message: bytes) -> _Socket:
    address, cookie = _SOCKET.unpack_from(message)
    at, held, lost = _SOCKET.size, 0, 0
    while at + _ATTRIBUTE.size <= len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, at)
        if kind == _MEMINFO:
            memory = MEMORY.unpack_from(message, at + _ATTRIBUTE.size)
            held, lost = memory[0], memory[-1]
        at += max(length + 3 & ~3, _ATTRIBUTE.size)
    return _Socket(cookie, address, held, lost)
