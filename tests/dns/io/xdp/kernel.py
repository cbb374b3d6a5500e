"""The DNS program in the kernel, fed by a fast path, with packets to run through it (BPF_PROG_TEST_RUN)."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address
from math import inf
from struct import pack, unpack

from dnsvip.dns.hotpath.fastpath import FastPath
from dnsvip.dns.io.xdp import image
from dnsvip.dns.io.xdp.feeder import Feeder
from dnsvip.dns.io.xdp.samples import Samples
from dnsvip.dns.protection.proxy import FrontEnds
from dnsvip.dns.querylog import Sample
from dnsvip.xdp.libbpf import library
from dnsvip.xdp.libbpf_structs import TestRunOptions
from dnsvip.xdp.maps import Map, RingBuffer
from dnsvip.xdp.objects import XDP_DROP, XDP_PASS, XDP_TX, Object, Program
from tests.samples import NOW

ROUTER, OURS = b"\2router", b"\2dnsvp"
MOST = 4096
DROPPED = b""
HOSTS: Mapping[str, Mapping[int, str]] = {
    "public": {4: "198.51.100.53", 6: "2001:db8:53::53"},
    "six": {4: "198.51.100.54", 6: "2001:db8:53::54"},
}
"""Listener -> its address by IP version."""


def total_of(data: bytes) -> int:
    """The one's complement sum (RFC 1071)."""
    total = sum(unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def check(data: bytes) -> int:
    return 0xFFFF - total_of(data)


def packet(source: str, to: str, payload: bytes, *, port: int = 4053, dport: int = 53, options: bytes = b"") -> bytes:
    """A datagram in an IP packet; `options` are those of IPv4."""
    ours, theirs = ip_address(to).packed, ip_address(source).packed
    length = 8 + len(payload)
    datagram = pack("!4H", port, dport, length, 0) + payload
    pseudo = theirs + ours + pack("!IHBB", length, 0, 0, 17)
    datagram = datagram[:6] + (check(pseudo + datagram) or 0xFFFF).to_bytes(2, "big") + datagram[8:]
    if len(ours) == 16:
        return pack("!IHBB", 6 << 28 | 0x12345, length, 17, 57) + theirs + ours + datagram
    words = 5 + len(options) // 4
    head = pack("!BBHHHBBH", 0x40 | words, 3, 4 * words + length, 7, 0x4000, 57, 17, 0) + theirs + ours + options
    return head[:10] + check(head).to_bytes(2, "big") + head[12:] + datagram


def frame(data: bytes, tags: bytes = b"", padding: bytes = b"") -> bytes:
    """A packet in a frame to us. `tags` are VLAN tags, four bytes each."""
    kind = b"\x08\x00" if data[0] >> 4 == 4 else b"\x86\xdd"
    return OURS[:6] + ROUTER[:6] + tags + kind + data + padding


def answer_in(out: bytes, asked: bytes) -> bytes:
    """The payload of the answer to a frame, having checked everything around it."""
    at = 12
    assert out[:12] == asked[6:12] + asked[:6]
    while out[at : at + 2] in (b"\x81\x00", b"\x88\xa8"):
        at += 4
    assert out[12 : at + 2] == asked[12 : at + 2]
    ip, before = out[at + 2 :], asked[at + 2 :]
    if ip[0] >> 4 == 6:
        addresses, was, upper = ip[8:40], before[8:40], ip[40:]
        assert ip[:4] == b"\x60\0\0\0"
        assert ip[6:8] == bytes((17, 64))
        assert int.from_bytes(ip[4:6], "big") == len(upper)
        half = 16
    else:
        addresses, was, upper = ip[12:20], before[12:20], ip[20:]
        assert ip[:2] == b"\x45\0"
        assert ip[6:10] == bytes((0, 0, 64, 17))
        assert total_of(ip[:20]) == 0xFFFF
        assert int.from_bytes(ip[2:4], "big") == len(ip)
        half = 4
    assert addresses == was[half:] + was[:half]
    ports = before[40:44] if half == 16 else before[20:24]
    assert upper[:4] == ports[2:] + ports[:2]
    assert int.from_bytes(upper[4:6], "big") == len(upper)
    assert upper[6:8] != b"\0\0"
    assert total_of(addresses + pack("!IHBB", len(upper), 0, 0, 17) + upper) == 0xFFFF
    return upper[8:]


class Kernel:
    """The loaded program, its maps, and what feeds them. The time is `now` (unix seconds), which a test may set."""

    def __init__(
        self,
        program: Program,
        set_cipher: Program,
        maps: dict[str, Map],
        fast: FastPath,
        ports: Mapping[str, int],
        *,
        fixed_time: bool,
    ) -> None:
        self.program, self.set_cipher, self.maps = program, set_cipher, maps
        self.feeder = Feeder(maps, set_cipher, HOSTS, fast, FrontEnds(()), fixed_time=fixed_time)
        self.events: list[bytes] = []
        self._ring = RingBuffer(maps["missing"], self.events.append)
        self.samples: list[tuple[int, Sample]] = []
        self.sampler = Samples(
            maps["samples"],
            maps["sampling"],
            self.feeder.cells,
            self.feeder.listeners,
            lambda takers, sample: self.samples.append((takers, sample)),
        )
        doors = {(host, ports[name]): name for name, hosts in HOSTS.items() for host in hosts.values()}
        self.feeder.open(OURS[:6], doors)
        self.at(NOW)
        self._in = ctypes.create_string_buffer(MOST)
        self._out = ctypes.create_string_buffer(MOST)
        self._options = TestRunOptions(sz=ctypes.sizeof(TestRunOptions), repeat=1)
        self._options.data_in = ctypes.cast(self._in, ctypes.c_void_p)
        self._options.data_out = ctypes.cast(self._out, ctypes.c_void_p)
        self._reference = ctypes.byref(self._options)
        self._run = library().bpf_prog_test_run_opts

    def close(self) -> None:
        """Close the descriptors that it has made."""
        self._ring.close()
        self.sampler.close()
        self.feeder.close()

    def at(self, now: float) -> None:
        """Answer at this time from now on."""
        self.now = now
        self.feeder.live(now, int(now * 1e9), fixed=True)

    def run(self, asked: bytes) -> tuple[int, bytes]:
        """The XDP action on a frame, and the frame afterwards."""
        options = self._options
        self._in[: len(asked)] = asked
        options.data_size_in, options.data_size_out = len(asked), MOST
        assert self._run(self.program.fd, self._reference) == 0, asked.hex()
        return options.retval, self._out[: options.data_size_out]

    def ask(self, wire: bytes, source: str | IPv4Address | IPv6Address, listener: str = "public") -> bytes | None:
        """The answer to a message, DROPPED by the rate limit; None where it is left to the server, untouched."""
        source = ip_address(source)
        asked = frame(packet(str(source), HOSTS[listener][source.version], wire))
        action, out = self.run(asked)
        if action == XDP_TX:
            return answer_in(out, asked)
        if action == XDP_DROP:
            return DROPPED
        assert action == XDP_PASS
        assert out == asked
        return None

    def taken(self) -> list[tuple[int, Sample]]:
        """The samples since the last call, each with the bits of its takers."""
        while self.sampler.consume():
            pass
        samples, self.samples[:] = list(self.samples), []
        return samples

    def learn(self) -> int:
        """Feed what the program has missed, and have it identify by what has changed; how many messages."""
        number = self.feed()
        self.feeder.work(inf)
        return number

    def feed(self) -> int:
        """Feed what the program has missed; how many messages."""
        self._ring.consume(1000)
        number = len(self.events)
        for event in self.events:
            self.feeder.feed(event, self.now)
        self.events.clear()
        return number

    def ask_until_known(self, wire: bytes, source: str, listener: str = "public") -> bytes:
        """The answer to a message that is asked for until the program has it."""
        for _ in range(6):
            answer = self.ask(wire, source, listener)
            if answer is not None:
                return answer
            self.learn()
        raise AssertionError(self.feeder.reasons())


@contextmanager
def loaded(
    fast: FastPath, ports: Mapping[str, int] | None = None, *, fixed_time: bool = False, **entries: int
) -> Iterator[Kernel]:
    """The program in the kernel, not pinned: it is removed after the block. `entries` of resized maps."""
    with Object.open(image.OBJECT) as opened:
        for name, number in entries.items():
            opened.resize(name, number)
        opened.load()
        program, set_cipher = opened.program(image.PROGRAM), opened.program("set_cipher")
        maps = {name: opened.map(name) for name in opened.maps if "." not in name}
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})  # each processor counts its own samples
        kernel = Kernel(program, set_cipher, maps, fast, ports or dict.fromkeys(HOSTS, 53), fixed_time=fixed_time)
        try:
            yield kernel
        finally:
            kernel.close()
    finally:
        os.sched_setaffinity(0, before)
        for descriptor in (program, set_cipher, *maps.values()):
            descriptor.close()
