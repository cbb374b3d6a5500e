"""The kernel program and the reference side by side: each packet goes to both, and both results are comparable.

A frame is the packet behind an Ethernet header. The program counts the hop limit down itself, so the reference gets
the packet with that done (dispatcher/egress/output.py). Next hops are known for ever here, on the interface that
packets come from; no route leads to a client, so replies under nat come back rewritten, for the kernel to forward.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address

from dnsvip.dispatcher.bucket_table import WAYS
from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.egress.encap import DISCARD
from dnsvip.dispatcher.egress.output import output_bytes
from dnsvip.dispatcher.egress.rewrite import adjust
from dnsvip.dispatcher.ending import concerns, walk
from dnsvip.dispatcher.engine import decide
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.flows.uses import Uses
from dnsvip.dispatcher.io.xdp.image import server_name
from dnsvip.dispatcher.io.xdp.kernel_types import TYPES, absent
from dnsvip.dispatcher.io.xdp.map_writer import MapWriter
from dnsvip.dispatcher.io.xdp.pinned_program import HELPERS
from dnsvip.dispatcher.io.xdp.table import sizes
from dnsvip.dispatcher.peers import step_of
from dnsvip.dispatcher.reason import Action
from dnsvip.dispatcher.token_bucket import Buckets
from dnsvip.dispatcher.verdict import AddressVerdict, Verdict
from dnsvip.xdp.libbpf import library
from dnsvip.xdp.libbpf_structs import TestRunOptions
from dnsvip.xdp.maps import Map
from dnsvip.xdp.objects import XDP_DROP, XDP_PASS, XDP_TX, Object, Program
from dnsvip.xdp.structs import u32

ROUTER_LINK, OUR_LINK, SERVER_LINK = b"\2router", b"\2dnsvp", b"\2servr"
LINK = OUR_LINK[:6] + ROUTER_LINK[:6]
FLOWS = 65_536
MOST = 4096
LOOPBACK = 1
"""The interface that BPF_PROG_TEST_RUN lets packets come from."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The result for a packet: the verdict's action, reason and server (POOL/NAME/ADDRESS), whether it is held, and the
    packet sent (empty where there is none)."""

    action: str
    reason: str
    server: str
    held: bool
    data: bytes


def frame_of(data: bytes, tags: bytes = b"") -> bytes:
    """A packet in a frame. `tags` are VLAN tags: type and number, four bytes each."""
    kind = b"\x08\x00" if data[:1] and data[0] >> 4 == 4 else b"\x86\xdd"
    return LINK + tags + kind + data


def counted_down(data: bytes) -> bytes:
    """A packet with its hop limit decremented."""
    out = bytearray(data)
    if len(data) >= 40 and data[0] >> 4 == 6 and data[7]:
        out[7] -= 1
    elif len(data) >= 20 and data[0] >> 4 == 4 and data[8]:
        out[8] -= 1
        out[10:12] = adjust(int.from_bytes(data[10:12], "big"), data[8:10], bytes(out[8:10])).to_bytes(2, "big")
    return bytes(out)


def counted_up(out: bytes, data: bytes) -> bytes:
    """A packet with the hop limit of `data`, which is one more."""
    if data[0] >> 4 == 6:
        return out[:7] + data[7:8] + out[8:]
    check = adjust(int.from_bytes(out[10:12], "big"), out[8:10], data[8:9] + out[9:10])
    return out[:8] + data[8:9] + out[9:10] + check.to_bytes(2, "big") + out[12:]


class Kernel:
    """The loaded program with its maps."""

    def __init__(self, programs: dict[str, Program], maps: dict[str, Map]) -> None:
        self.program, self.programs, self.maps = programs["dispatch"], programs, maps
        self.writer = MapWriter(maps, programs)
        self.writer.settings(trace=1, user_space=1)
        hop = TYPES.struct("hop").pack_sparse(
            until=(1 << 64) - 1, interface=LOOPBACK, back=1, destination=SERVER_LINK[:6], source=OUR_LINK[:6], known=1
        )
        for number in range(TYPES.constants("bounds")["MAX_SERVERS"]):
            maps["hops"].put(u32(number), hop)
        self._now = TYPES.struct("config").members["now"].offset
        self._last_type, self._none = TYPES.struct("last"), absent()
        self._actions = {number: word for word, number in TYPES.words("action", "ACTION_").items()}
        self._reasons = {number: word for word, number in TYPES.words("reason", "REASON_").items()}
        self._last = mmap.mmap(maps["last"].fd, mmap.PAGESIZE, prot=mmap.PROT_READ)
        self._config = mmap.mmap(maps["config"].fd, mmap.PAGESIZE)
        self._in = ctypes.create_string_buffer(MOST)
        self._out = ctypes.create_string_buffer(MOST)
        self._options = TestRunOptions(sz=ctypes.sizeof(TestRunOptions), repeat=1)
        self._options.data_in = ctypes.cast(self._in, ctypes.c_void_p)
        self._options.data_out = ctypes.cast(self._out, ctypes.c_void_p)
        self._reference = ctypes.byref(self._options)
        self._run = library().bpf_prog_test_run_opts
        self.results: tuple[int, int] = (0, 0)

    def run(self, frame: bytes, now: int = 0) -> tuple[int, bytes]:
        """The XDP action on a frame at `now` (unix ns), and the frame afterwards."""
        if now:
            struct.pack_into("=Q", self._config, self._now, now)
        options = self._options
        self._in[: len(frame)] = frame
        options.data_size_in, options.data_size_out = len(frame), MOST
        result = self._run(self.program.fd, self._reference)
        assert result == 0, (result, frame.hex())
        return options.retval, self._out[: options.data_size_out]

    def see(self, data: bytes, now: int, tags: bytes = b"") -> Seen:
        """The result for a packet."""
        frame = frame_of(data, tags)
        action, out = self.run(frame, now)
        last = self._last_type.unpack(self._last[: self._last_type.size])
        name = "" if last["server"] == self._none else self.writer.server(last["server"])
        packet = out[len(frame) - len(data) :]
        wanted = self._actions[last["action"]]
        if wanted == "drop":
            assert action == XDP_DROP
            packet = b""
        elif wanted == "pass" or last["held"] or action == XDP_PASS:
            assert action == XDP_PASS
        else:
            assert action == XDP_TX, action
            assert out[12 : len(frame) - len(data) - 2] == frame[12 : len(frame) - len(data) - 2]
            link = ROUTER_LINK[:6] + OUR_LINK[:6] if wanted == "answer" else SERVER_LINK[:6] + OUR_LINK[:6]
            assert out[:12] == link
        return Seen(wanted, self._reasons[last["reason"]], name, bool(last["held"]), packet)

    def crowd(self, *, marks: bool = True) -> None:
        """Fill the filters as a flood of new flows does: every answer is "perhaps". The marks stay, or are erased."""
        filters, mark = self.maps["filters"], 1 << 31
        with filters.mapped() as lines:
            words = struct.unpack(f"={len(lines) // 4}I", lines)
        full = struct.pack(f"={len(words)}I", *(word & (mark if marks else 0) | mark - 1 for word in words))
        filters.put_many(b"".join(map(u32, range(filters.max_entries))), full)

    def forget(self) -> None:
        """Clear all state between packets."""
        self.writer.sweep(0, everything=True)
        self.writer.settings(generation=self.writer.settings()["generation"] + 1)
        for number in range(self.maps["buckets"].max_entries):
            self.maps["buckets"].put(u32(number), bytes(8))
        for number in range(self.maps["policing_buckets"].max_entries):
            self.maps["policing_buckets"].put(u32(number), bytes(16))
        for table in (self.maps["client_buckets"], self.maps["source_buckets"]):
            empty = bytes(TYPES.struct("bucket_set").size * table.max_entries)
            table.put_many(b"".join(map(u32, range(table.max_entries))), empty)

    def buckets(self) -> Buckets:
        """Buckets for a reference that hashes holders as the program does."""
        lanes = TYPES.struct("lanes")
        words = struct.unpack("=6Q", lanes.unpack(self.maps["lanes"].get(u32(0)) or b"")["key"])
        return Buckets(self.maps["client_buckets"].max_entries * WAYS, (words[2], words[5]))


class Reference:
    """The user-space decision function with its state; `address` is what it found of the last packet's address."""

    def __init__(
        self, tables: DispatchTables, flows: int = FLOWS, buckets: Buckets | None = None, uses: int | None = None
    ) -> None:
        self.tables = tables
        self.address: AddressVerdict | None = None
        self.flows = Flows(flows, buckets)
        if uses is not None:
            self.flows.uses = Uses(uses)

    def change(self, tables: DispatchTables) -> None:
        """Decide by other tables, ending the flows that are to end."""
        before, self.tables = self.tables, tables
        if concerns(before.sound, tables.sound):
            for _ in walk(self.flows, tables):
                pass

    def see(self, data: bytes, now: int) -> Seen:
        """The result for a packet."""
        data, step = unwrapped(data, self.tables)
        came = counted_down(data)
        verdict = decide(came, self.tables, self.flows, now, step)
        self.address = verdict.address
        return seen(verdict, data, came)


def unwrapped(data: bytes, tables: DispatchTables) -> tuple[bytes, int]:
    """A packet that another dispatcher has relayed, and how; any other as it is, and 0."""
    if len(data) < 40 or data[0] >> 4 != 6 or data[24:40] != tables.peers.own:
        return data, 0
    inside = data[40 : 40 + int.from_bytes(data[4:6], "big")]  # as long as the outer header says
    step = step_of(tables.relay_key, data[8:24], DISCARD, data[6], inside)
    return (data[40:] if step else data), step


def seen(verdict: Verdict, data: bytes, came: bytes) -> Seen:
    """A verdict of the reference in the form of the kernel's result."""
    server = verdict.server
    name = server_name(server.pool, server.name, _text(server.address), server.own) if server else ""
    held = bool(verdict.delay)
    out = output_bytes(came, verdict)
    sends = verdict.action in (Action.FORWARD, Action.ANSWER)
    if held or verdict.action is Action.PASS or (sends and _hops(data) <= 1):
        out = data
    elif verdict.vip:  # the kernel forwards it, and counts down
        out = counted_up(out, data)
    return Seen(verdict.action.value, verdict.reason, name, held, out)


def _hops(data: bytes) -> int:
    return data[7] if data[0] >> 4 == 6 else data[8]


@cache
def _text(address: bytes) -> str:
    return str(ip_address(address))


@contextmanager
def loaded(flows: int = FLOWS, variant: bytes | None = None, **entries_of: int) -> Iterator[Kernel]:
    """The program in the kernel, not pinned: it is removed after the block. `entries_of`: entries of resized maps;
    `variant`: an object with the same maps in place of the built one."""
    with Object.open("dispatch", variant) as opened:
        for name, entries in (sizes(flows) | entries_of).items():
            opened.resize(name, entries)
        opened.load()
        programs = {name: opened.program(name) for name in ("dispatch", *HELPERS)}
        maps = {name: opened.map(name) for name in opened.maps if "." not in name}
    try:
        yield Kernel(programs, maps)
    finally:
        for descriptor in (*programs.values(), *maps.values()):
            descriptor.close()
