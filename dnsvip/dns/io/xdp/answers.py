"""Answers from the kernel for a server: the program on its interface, fed from the server's own event loop.

    questions -> XDP program -> answers                        what the maps hold
                     |  everything else, untouched
                     +-> the server's sockets -> answers       and what is missing twice -> feeder -> maps

Of several processes with the same interface one feeds, the first that takes the lock; the others wait for it to end.
The attachment is pinned: a process that crashes leaves a program that answers what it knows for LEASE_NS and nothing
then, and the next process replaces it between two packets. One that stops detaches it, or leaves it in the same way.
A dispatcher on the same interface gets what the program passes (xdp/chain.py).
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import time
import traceback
from collections.abc import Mapping, Sequence
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

import structlog
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from dnsvip.dns.io.listen import Endpoint
from dnsvip.dns.io.server import DnsServer
from dnsvip.dns.io.xdp import image
from dnsvip.dns.io.xdp.budget import Budget, Look
from dnsvip.dns.io.xdp.feeder import Feeder
from dnsvip.dns.io.xdp.pace import Pace
from dnsvip.dns.io.xdp.pages import pages_for
from dnsvip.dns.io.xdp.ports import SharedLoad
from dnsvip.dns.io.xdp.records import records_for
from dnsvip.dns.io.xdp.samples import TAKERS, Samples
from dnsvip.dns.protection.sources import source_of
from dnsvip.dns.querylog import Sample
from dnsvip.errors import PlatformError
from dnsvip.fair_queue import FairQueue
from dnsvip.site.node_dns import XdpSettings
from dnsvip.xdp import chain
from dnsvip.xdp.chain import NEXT, Place
from dnsvip.xdp.link import Link, Mode
from dnsvip.xdp.maps import Map, RingBuffer
from dnsvip.xdp.objects import Object
from dnsvip.xdp.pinned import make_folder
from dnsvip.xdp.platform import check_platform

MOST_AT_ONCE = 256
"""How many are taken each time: a millisecond's work."""
SLICE_SECONDS = 0.002
"""How long they are looked at each time; the server waits meanwhile."""
LIVE_SECONDS = 1.0
"""How often the lease is renewed."""
WEIGH_SECONDS = 0.05
"""How often it is looked at whether the server keeps up; less often at rest (pace.py)."""
LOOK_SECONDS = 5.0
"""How often the addresses of the machine are read, and the lock is tried."""
REQUESTERS_PER_SIGNATURE = 4
"""How many the program knows for each signature of an address; most ask without DO, or get the same addresses."""
MOST_WAITING = 4096
"""Questions that wait to be looked at, in the turn of their sources; of who has most the oldest are forgotten, and come
again."""

DESCRIPTORS = 64
"""Of the program, its maps and rings; the arrays of prefixes and records have one each besides."""

WHAT, INSTEAD = "dns.xdp", "or remove xdp from [dns]"

log = structlog.get_logger()


class KernelAnswers:
    """Answers ahead of `server`, from `start` to `stop`."""

    def __init__(self, settings: XdpSettings, server: DnsServer) -> None:
        self._settings, self._server = settings, server
        self._lock = -1
        self._attached: _Attached | None = None
        self._waiting: FairQueue[bytes] = FairQueue(MOST_WAITING)
        self._failures = 0
        self._budget, self._load = Budget(), (server.load(), time.monotonic())
        self._shared = SharedLoad(server)

    async def start(self) -> None:
        """Answer, unless another process does. Call it when the server listens. Raises PlatformError for a machine or
        an interface that cannot do it."""
        where = place(self._settings)
        check_platform(image.OBJECT, self._settings.pins, what=WHAT, instead=INSTEAD)
        if not (await self._machine()).doors:
            raise PlatformError(f"{WHAT}: no listener of [dns] has an address that packets come to from outside")
        make_folder(self._settings.pins)
        self._lock = _lock_file(where.own)
        self._server.ahead = self
        await self._take_over(where)

    async def run(self) -> None:
        """Feed the program for ever."""
        lived = looked = weighed = 0.0
        missed, pace = 0, Pace()
        while True:
            left = missed or self._waiting or (self._attached is not None and self._attached.feeder.prefixes.is_busy)
            await asyncio.sleep(pace.seconds(busy=bool(left)))
            now = time.monotonic()
            if now - looked >= LOOK_SECONDS:
                looked = now
                await self._look()
            if now - lived >= LIVE_SECONDS:
                lived = now
                self.renew()
            if now - weighed >= WEIGH_SECONDS:
                weighed = now
                pace.look(active=self._weigh(now) or bool(left or self._server.logs))
            if self._attached is not None:
                missed = self._attached.missing.consume(MOST_AT_ONCE) + self._attached.samples.consume()
                self._feed(now + SLICE_SECONDS)
                self._work()

    def stop(self) -> None:
        """Detach the program, or leave it for the time of its lease. Call it while the server listens."""
        self._server.ahead = None
        if self._attached is not None:
            self._attached.collect(self._server)
            if self._settings.keep:
                self.renew()
            else:
                self._attached.detach()
            self._attached.close()
            self._attached = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def renew(self) -> None:
        """Answer as the server does now, limit the rate and sample as it does."""
        if self._attached is None:
            return
        feeder, logs = self._attached.feeder, self._server.logs
        try:
            feeder.use(self._server.fast)
            feeder.limit(self._server.rate_limit)
            feeder.sample([logs[name].one_in if name in logs else 0 for name in TAKERS])
            feeder.live(time.time(), time.monotonic_ns())
        except PlatformError as error:  # the lease ends by itself
            log.error("cannot answer in the kernel", interface=self._settings.interface, error=str(error))

    def collect(self) -> Mapping[str, int]:
        """Add what was answered since the last call to the server's counters; packets by what became of them."""
        return self._attached.collect(self._server) if self._attached else {}

    def _weigh(self, now: float) -> bool:
        """Leave to the server what it can do (`time.monotonic`); whether there was anything to do."""
        (before, at), load = self._load, self._shared.read() if self._attached else self._server.load()
        self._load = load, now
        refused = 0 if self._budget.rate is None or self._attached is None else self._attached.refused()
        done, lost, spent = load.done - before.done, load.lost - before.lost, load.spent - before.spent
        if self._budget.look(Look(now - at, done, lost, refused, spent, load.waiting, load.held)):
            self._server.forget_waiting()
        if self._attached is not None:
            self._attached.feeder.leave_up(self._budget.rate)
        return bool(done or lost or self._budget.rate is not None)

    def _feed(self, end: float) -> None:
        """Have the program know what it has missed, until the time is over (`time.monotonic`)."""
        while self._attached is not None and time.monotonic() < end and (event := self._waiting.take()) is not None:
            try:
                self._attached.feeder.feed(event, time.time())
            except Exception:  # noqa: BLE001 - one question must not keep the others from being known
                self._failures += 1
                if self._failures & (self._failures - 1) == 0:
                    log.error("a question cannot be known to the kernel", traceback=traceback.format_exc())

    def _work(self) -> None:
        """Go on having the program identify requesters by what has changed."""
        if self._attached is None or not self._attached.feeder.has_settled():
            return
        is_done = False
        try:
            is_done = self._attached.feeder.work(time.monotonic() + SLICE_SECONDS)
        except Exception:  # noqa: BLE001 - without it, who has not asked before is the server's
            log.error("the kernel cannot identify requesters", traceback=traceback.format_exc())
        if is_done and self._attached.feeder.prefixes.is_lacking:
            log.warning("not all prefixes have room in the kernel", advice="raise prefixes in [dns] xdp")

    async def _look(self) -> None:
        """Follow the machine's addresses, or take over from a process that has ended; what fails is tried again."""
        try:
            if self._attached is None:
                await self._take_over(place(self._settings))
            else:
                self._attached.open(await self._machine())
        except (PlatformError, OSError, NetlinkError) as error:
            log.warning("cannot answer in the kernel", interface=self._settings.interface, error=str(error))

    async def _take_over(self, where: Place) -> None:
        """Attach the program where no other process feeds one."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        machine = await self._machine()
        attached = await asyncio.to_thread(_Attached, self._settings, where, self._server, machine, self._waiting)
        self._attached = attached
        self.renew()
        mode = "generic" if self._settings.generic else "native"
        log.info("answering in the kernel", interface=self._settings.interface, mode=mode)

    async def _machine(self) -> _Machine:
        return await asyncio.to_thread(_read_machine, self._settings.interface, self._server.endpoints)


class _Machine(NamedTuple):
    """The Ethernet address of the interface, and the listeners by the addresses and ports that packets come to."""

    mac: bytes
    doors: Mapping[tuple[str, int], str]


class _Attached:
    """One loaded and attached program with what feeds it. Made and used in one thread at a time."""

    def __init__(
        self,
        settings: XdpSettings,
        where: Place,
        server: DnsServer,
        machine: _Machine,
        waiting: FairQueue[bytes],
    ) -> None:
        self._settings, self._where = settings, where
        where.forget_dead()
        make_folder(where.own)
        with Object.open(image.OBJECT) as opened:
            opened.resize("requesters", settings.requesters)
            opened.resize("signatures", settings.requesters // REQUESTERS_PER_SIGNATURE)
            opened.resize("templates", settings.templates)
            opened.resize("pages", pages_for(settings.prefixes))
            opened.resize("records", records_for(settings.prefixes))
            if (where.own / NEXT).exists():  # what is behind the program stays there
                with Map.pinned(where.own / NEXT) as following:
                    opened.reuse(NEXT, following)
            opened.load()
            self._program, self._set_cipher = opened.program(image.PROGRAM), opened.program("set_cipher")
            self._maps: dict[str, Map] = {name: opened.map(name) for name in opened.maps if "." not in name}
        self._link: Link | None = None
        self._waiting = waiting
        self.missing = RingBuffer(self._maps["missing"], self._missed)
        names = [endpoint.name for endpoint in server.endpoints]
        self.feeder = Feeder(
            self._maps,
            self._set_cipher,
            names,
            server.fast,
            server.front_ends,
            fixed_time=settings.fixed_time_aes,
        )
        take = partial(_offer, server)
        self.samples = Samples(
            self._maps["samples"], self._maps["sampling"], self.feeder.cells, self.feeder.listeners, take
        )
        self._limited = {"slipped": 0, "dropped": 0, "busy": 0}
        self._refused = 0
        self.open(machine)
        try:
            self._attach()
        except PlatformError:
            self.close()
            raise

    def _missed(self, event: bytes) -> None:
        source = self.feeder.source(event)
        self._waiting.put(source_of(source), event, source)

    def open(self, machine: _Machine) -> None:
        """Answer on the addresses that the machine has."""
        self.feeder.open(machine.mac, machine.doors)

    def _attach(self) -> None:
        """Attach the program, in place of that of an earlier process; raises PlatformError."""
        mode = Mode.GENERIC if self._settings.generic else Mode.NATIVE
        advice = f'"generic = true" in dns.xdp (slower), {INSTEAD}'
        self._link = self._where.put(self._program, mode, advice, self._maps[NEXT])

    def collect(self, server: DnsServer) -> Mapping[str, int]:
        """As `KernelAnswers.collect`."""
        messages, reasons = self.feeder.collect(server.engine.counters), self.feeder.reasons()
        limited = {name: reasons[name] for name in self._limited}
        server.count_ahead(messages, *(limited[name] - before for name, before in self._limited.items()))
        self._limited = limited
        self.samples.consume()
        for name, number in zip(TAKERS, self.samples.lost(), strict=True):
            if number and name in server.logs:
                server.logs[name].log.lose(number)
        return reasons

    def refused(self) -> int:
        """Questions that were to go up and were dropped since the last call."""
        before, self._refused = self._refused, self.feeder.refused()
        return self._refused - before

    def detach(self) -> None:
        """Detach the program, and remove its pins."""
        if self._link is not None:
            self._where.take_away()

    def close(self) -> None:
        """Close the descriptors."""
        self.missing.close()
        self.samples.close()
        if self._link is not None:
            self._link.close()
        self.feeder.close()
        self._program.close()
        self._set_cipher.close()
        for each in self._maps.values():
            each.close()


def _offer(server: DnsServer, takers: int, sample: Sample) -> None:
    """Offer a sample to the logs that it was picked for, where they are still there."""
    for number, name in enumerate(TAKERS):
        if takers >> number & 1 and name in server.logs:
            server.logs[name].log.offer(sample)


def descriptors(settings: XdpSettings) -> int:
    """How many file descriptors a program takes; raises PlatformError where there is none."""
    return DESCRIPTORS + pages_for(settings.prefixes) + records_for(settings.prefixes)


def place(settings: XdpSettings) -> Place:
    """Where the program of an interface is pinned; raises PlatformError where there is no such interface."""
    return chain.place(settings.interface, settings.pins, is_first=True, what=f"{WHAT}.interface")


def detach(settings: XdpSettings) -> bool:
    """Detach the program that a server has left; false where there is none."""
    return place(settings).take_away()


def _lock_file(folder: Path) -> int:
    """A descriptor that one process may lock; no pin is in that folder, so it stays."""
    locked = folder.with_name(f"{folder.name}-lock")
    make_folder(locked)
    return os.open(locked, os.O_RDONLY | os.O_DIRECTORY)


def _read_machine(interface: str, endpoints: Sequence[Endpoint]) -> _Machine:
    """The machine as it is now, of which a listener on all addresses needs each. (Not in an event loop, as pyroute2 has
    its own.) Raises PlatformError for an interface that has no Ethernet address."""
    with IPRoute() as ip:
        [link] = ip.link("get", index=socket.if_nametoindex(interface))
        own = [(item["family"], item.get_attr("IFA_LOCAL") or item.get_attr("IFA_ADDRESS")) for item in ip.get_addr()]
    mac = bytes.fromhex(str(link.get_attr("IFLA_ADDRESS") or "").replace(":", ""))
    if len(mac) != _MAC_BYTES or not any(mac):
        raise PlatformError(
            f"{WHAT}.interface: {interface} is no Ethernet interface; name the one that questions come by"
        )
    doors: dict[tuple[str, int], str] = {}
    plain = [endpoint for endpoint in endpoints if not endpoint.scheme]
    for endpoint in sorted(plain, key=lambda endpoint: endpoint.host not in _WILD):  # one for one address decides
        family = _WILD.get(endpoint.host)
        for host in [endpoint.host] if family is None else [address for kind, address in own if kind == family]:
            if not ip_address(host).is_loopback:
                doors[host, endpoint.port] = endpoint.name
    return _Machine(mac, doors)


_MAC_BYTES = 6
_WILD = {"0.0.0.0": socket.AF_INET, "::": socket.AF_INET6}  # noqa: S104 - compared, not bound
