"""Traffic for the tests, both ends, standard library only: run as a file in a host.

    server NAME               TCP 8000: streams numbered lines, UDP 8001: echoes with NAME before
    download FLOWS SECONDS[/EVERY] ADDRESS...   concurrent slow downloads, a line in EVERY seconds; prints JSON at the
                                        end or on an empty line of input; on a line "more" waits until each went on
    echo FLOWS ROUNDS ADDRESS...        UDP flows, each sending its number ROUNDS times (as QUIC would, from one port)
    connect COUNT AT_ONCE ADDRESS...    connections opened, one line read, closed; prints times
    pace SECONDS RATE ADDRESS [PID]     connections one after the other, RATE a second; prints times
                                        (SIGTERM ends it before)
    opens SECONDS RATE ADDRESS...       first packets of RATE new flows a second of this host
    fetch BYTES ADDRESS, push BYTES ADDRESS   one download or upload at full speed
    flood forged|new|known COUNT ADDRESS  packets that servers drop (no checksum): first packets of flows from random
                                        sources to random addresses in the prefix of ADDRESS, or to ADDRESS itself;
                                        or later packets of KNOWN_FLOWS flows

A download is unharmed when one server sent every line in order to the end.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import random
import resource
import signal
import socket
import struct
import sys
import time
from collections import Counter
from typing import TextIO

TCP, UDP = 8000, 8001
LINE_SECONDS = 0.25
FILL = "x" * 400
BLOCK = bytes(1 << 16)
MORE_SECONDS = 40.0
KNOWN_FLOWS = 1000


async def serve(name: str) -> None:
    """Serve until killed."""

    async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked = (await reader.readline()).decode().split()
            if asked[1:] == ["up"]:
                await reader.readexactly(int(asked[0]))
                writer.write(b"got\n")
            elif len(asked) == 2:  # this many bytes at full speed
                for start in range(0, int(asked[0]), len(BLOCK)):
                    writer.write(BLOCK[: int(asked[0]) - start])
                    await writer.drain()
            lines = int(asked[0]) if len(asked) in (1, 3) else 0
            every = float(asked[2]) if len(asked) == 3 else LINE_SECONDS
            for number in range(lines):
                writer.write(f"{name} {number} {FILL if number else ''}\n".encode())
                await writer.drain()
                if lines > 1:
                    await asyncio.sleep(every)
            writer.close()
        except (OSError, ValueError):
            writer.close()

    datagrams = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    datagrams.setsockopt(socket.IPPROTO_IPV6, 78, 1)  # IPV6_FREEBIND: VIPs are not addresses of an interface
    datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    datagrams.bind(("::", UDP))

    def answer() -> None:
        """Answer from the address that was queried, one of many here (RFC 3542 section 6)."""
        data, ancillary, _, peer = datagrams.recvmsg(2048, 256)
        asked = [
            (level, kind, value[:16] + bytes(4)) for level, kind, value in ancillary if kind == socket.IPV6_PKTINFO
        ]
        datagrams.sendmsg([name.encode() + b" " + data], asked, 0, peer)

    asyncio.get_running_loop().add_reader(datagrams, answer)
    server = await asyncio.start_server(stream, None, TCP, backlog=4096)
    await server.serve_forever()


async def more(received: list[int], harmed: dict[str, str], seconds: float = MORE_SECONDS) -> dict[str, object]:
    """Wait until each flow has received more than now, for `seconds` at most; which have not, and how long it took."""
    before, start = list(received), time.monotonic()
    while True:
        waiting = [str(n) for n, count in enumerate(received) if count <= before[n] or str(n) in harmed]
        took = time.monotonic() - start
        if not waiting or took > seconds:
            return {"waiting": waiting, "seconds": took, "harmed": harmed}
        await asyncio.sleep(0.02)


async def until_told(received: list[int], harmed: dict[str, str], over: asyncio.Event) -> None:
    """Carry out the lines on standard input, until an empty one."""
    while (await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)).strip():
        print(json.dumps(await more(received, harmed)), flush=True)
    over.set()


async def download(flows: int, seconds: float, every: float, addresses: list[str]) -> dict[str, object]:
    """Run downloads and report on them; a line on standard input ends them early and cleanly."""
    over = asyncio.Event()
    started: Counter[str] = Counter()
    harmed: dict[str, str] = {}
    servers: dict[str, str] = {}
    received = [0] * flows
    begun = 0

    async def one(number: int) -> None:
        nonlocal begun
        label = str(number)
        try:
            async with asyncio.timeout(20):
                reader, writer = await asyncio.open_connection(addresses[number % len(addresses)], TCP)
            writer.write(f"{int(seconds / every)} every {every}\n".encode())
            expected = 0
            while not over.is_set():
                async with asyncio.timeout(15):
                    line = await reader.readline()
                if not line:
                    break
                name, count, _ = line.decode().split(" ", 2)
                if expected == 0:
                    servers[label] = name
                    started[name] += 1
                    begun += 1
                    if begun == flows:
                        print("running", flush=True)
                if (servers[label], expected) != (name, int(count)):
                    harmed[label] = f"line {count} of {name} in place of line {expected} of {servers[label]}"
                    break
                expected = received[number] = expected + 1
            if not over.is_set() and expected != int(seconds / every) and label not in harmed:
                harmed[label] = f"ended after line {expected}"
            writer.close()
        except (OSError, ValueError, TimeoutError) as error:
            if not over.is_set():
                harmed[label] = f"{type(error).__name__} {error}"
                if label not in servers:
                    print(json.dumps(harmed), flush=True)

    watcher = asyncio.ensure_future(until_told(received, harmed, over))
    tasks = [asyncio.ensure_future(one(number)) for number in range(flows)]
    pending: set[asyncio.Future[None]] = set(tasks)
    while pending and not over.is_set():
        _, pending = await asyncio.wait(pending, timeout=0.2)
    for task in pending:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    watcher.cancel()
    return {"servers": dict(started), "by_flow": servers, "harmed": harmed}


async def echo(flows: int, rounds: int, addresses: list[str]) -> dict[str, object]:
    """The number of UDP flows answered every time, and by one server only."""
    loop = asyncio.get_running_loop()
    servers: list[set[str]] = [set() for _ in range(flows)]
    answered = [0] * flows

    class Flow(asyncio.DatagramProtocol):
        def __init__(self, number: int) -> None:
            self.number = number
            self.got = asyncio.Event()

        def datagram_received(self, data: bytes, peer: tuple[str, int]) -> None:
            name, _, number = data.decode().partition(" ")
            if number.startswith(f"{self.number} "):
                servers[self.number].add(name)
                answered[self.number] += 1
                self.got.set()

    async def one(number: int) -> None:
        transport, flow = await loop.create_datagram_endpoint(
            lambda: Flow(number), remote_addr=(addresses[number % len(addresses)], UDP)
        )
        for turn in range(rounds):
            flow.got.clear()
            for _ in range(5):  # as QUIC does: a lost packet is sent again
                transport.sendto(f"{number} {turn}".encode())
                try:
                    async with asyncio.timeout(2):
                        await flow.got.wait()
                    break
                except TimeoutError:
                    continue
        transport.close()

    for start in range(0, flows, 200):
        await asyncio.gather(*(one(number) for number in range(start, min(start + 200, flows))))
    return {
        "answered": sum(count >= rounds for count in answered),
        "moved": sum(len(names) > 1 for names in servers),
        "servers": dict(Counter(name for names in servers for name in names)),
    }


async def connect(count: int, at_once: int, addresses: list[str]) -> dict[str, object]:
    """Times of `count` connections, `at_once` of them at a time: seconds in all, milliseconds each."""
    times: list[float] = []
    failed = 0
    numbers = iter(range(count))

    async def worker() -> None:
        nonlocal failed
        for number in numbers:
            start = time.perf_counter()
            try:
                async with asyncio.timeout(10):
                    reader, writer = await asyncio.open_connection(addresses[number % len(addresses)], TCP)
                    times.append(1e3 * (time.perf_counter() - start))
                    writer.write(b"1\n")
                    if not await reader.readline():
                        failed += 1
                writer.close()
            except (OSError, TimeoutError):
                failed += 1

    begin = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(at_once)))
    took = time.perf_counter() - begin
    return {"seconds": took, "per_second": (count - failed) / took, "failed": failed, **shares_of(times)}


def shares_of(times: list[float]) -> dict[str, float]:
    """Percentiles."""
    times = sorted(times)
    last = len(times) - 1
    return {f"p{share}": times[min(int(len(times) * share / 100), last)] for share in (50, 90, 99) if times}


def pace(seconds: float, rate: float, address: str, pid: str = "") -> dict[str, object]:
    """Milliseconds to connect, of connections one after the other, so many a second: from the first segment to its
    answer as the kernel measures it, so that a client which waits for its turn on a busy machine does not count; of a
    segment that was sent again, what the client saw. Those during which a process (the one that forwards) waited for a
    processor, that something else had, are `disturbed`, and not among the times."""
    times: list[float] = []
    failed, again, disturbed, begun, over = 0, 0, 0, time.perf_counter(), list[int]()
    signal.signal(signal.SIGTERM, lambda number, _: over.append(number))
    with open(f"/proc/{pid}/task/{pid}/schedstat" if pid else os.devnull) as schedule:
        for number in range(int(seconds * rate)):
            time.sleep(max(begun + number / rate - time.perf_counter(), 0))
            if over:
                break
            waited, start = _waited(schedule), time.perf_counter()
            try:
                with socket.create_connection((address, TCP), 10) as connection:
                    took = 1e3 * (time.perf_counter() - start)
                    waited = _waited(schedule) - waited
                    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, RETRANSMITTED + 4)
                    lost = _word(info, RETRANSMITTED) > 0
                    if lost or waited < DISTURBED:
                        times.append(took if lost else _word(info, RTT) / 1e3)
                    else:
                        disturbed += 1
                    again += lost
                    connection.sendall(b"1\n")
                    failed += not connection.recv(100)
            except OSError:
                failed += 1
    opened = len(times) + disturbed
    return {"opened": opened, "at_once": opened - again, "failed": failed, "disturbed": disturbed, **shares_of(times)}


DISTURBED = 0.15
"""Milliseconds that a process waits for a processor, more than it takes an idle one to wake up."""


def _waited(schedule: TextIO) -> float:
    """Milliseconds that a thread has waited for a processor since it began (proc_pid_schedstat(5))."""
    schedule.seek(0)
    figures = schedule.read().split()
    return int(figures[1]) / 1e6 if figures else 0.0


RTT, RETRANSMITTED = 68, 100
"""Where tcpi_rtt (microseconds) and tcpi_total_retrans are in struct tcp_info of linux/tcp.h."""


def _word(data: bytes, at: int) -> int:
    number: int = struct.unpack_from("=I", data, at)[0]
    return number


async def fetch(size: int, address: str) -> dict[str, object]:
    """Bytes received, and the seconds that took."""
    start, got = time.perf_counter(), 0
    reader, writer = await asyncio.open_connection(address, TCP)
    writer.write(f"{size} bytes\n".encode())
    while block := await reader.read(1 << 20):
        got += len(block)
    writer.close()
    return {"bytes": got, "seconds": time.perf_counter() - start}


async def push(size: int, address: str) -> dict[str, object]:
    """Whether all bytes arrived within ten seconds."""
    reader, writer = await asyncio.open_connection(address, TCP)
    writer.write(f"{size} up\n".encode() + bytes(size))
    try:
        async with asyncio.timeout(10):
            said = await reader.readline()
    except TimeoutError:
        said = b""
    return {"arrived": said == b"got\n"}


def flood(kind: str, count: int, address: str) -> dict[str, object]:
    """Send exactly this many packets; return the seconds that took."""
    vip = socket.inet_pton(socket.AF_INET6, address)
    source = socket.inet_pton(socket.AF_INET6, "2001:db8:77::")[:8]
    segment = struct.pack("!IIBBHHH", 1, 0, 0x50, 16 if kind == "known" else 2, 65535, 0, 0)
    head = struct.pack("!IHBB", 6 << 28, 20, 6, 64)
    raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
    start = time.monotonic()
    for number in range(count):
        noise = random.randbytes(18)
        if kind == "known":
            noise = bytes(16) + (1024 + number % KNOWN_FLOWS).to_bytes(2, "big")
        to = vip[:8] + noise[:8] if kind == "forged" else vip
        packet = head + source + noise[8:16] + to + noise[16:] + TCP.to_bytes(2, "big") + segment
        try:
            raw.sendto(packet, (address, 0))
        except BlockingIOError:
            time.sleep(0.001)
        if number % 500 == 499:
            time.sleep(0.005)  # leave some CPU to the others
    return {"sent": count, "seconds": time.monotonic() - start}


def opens(seconds: float, rate: int, addresses: list[str]) -> dict[str, object]:
    """Send the first packets of new flows, AT_ONCE in one system call; what is too late is left out."""
    probe = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    probe.connect((addresses[0], TCP))
    source = socket.inet_pton(socket.AF_INET6, probe.getsockname()[0])
    raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
    packets, batch, sums = _syns(source, [addresses[number % len(addresses)] for number in range(AT_ONCE)])
    send = ctypes.CDLL(None, use_errno=True).sendmmsg
    begun, sent, size = time.monotonic(), 0, HEADERS
    while (now := time.monotonic() - begun) < seconds:
        if sent >= now * rate:
            time.sleep(0.0001)
            continue
        port = 1024 + sent // AT_ONCE % 64_000
        for number, total in enumerate(sums):
            whole = total + port
            struct.pack_into("!H", packets, number * size + 40, port)
            struct.pack_into("!H", packets, number * size + 56, ~((whole & 0xFFFF) + (whole >> 16)) & 0xFFFF)
        sent += max(send(raw.fileno(), batch, AT_ONCE, 0), 0)
        if sent < now * rate - rate / 10:  # a tenth of a second late
            begun += 0.1
    return {"sent": sent, "seconds": seconds, "per_second": sent / seconds}


AT_ONCE, HEADERS = 10, 60


def _syns(source: bytes, addresses: list[str]) -> tuple[ctypes.Array[ctypes.c_char], object, list[int]]:
    """Packets without port and checksum in one buffer, the messages of sendmmsg(2) for them, and their sums."""
    packets = ctypes.create_string_buffer(HEADERS * len(addresses))
    keep, sums, headers = [], [], b""
    for number, address in enumerate(addresses):
        vip = socket.inet_pton(socket.AF_INET6, address)
        tcp = struct.pack("!HHIIBBHHH", 0, TCP, 1, 0, 0x50, 2, 65535, 0, 0)
        struct.pack_into(f"!IHBB16s16s{len(tcp)}s", packets, number * HEADERS, 6 << 28, 20, 6, 64, source, vip, tcp)
        total = sum(struct.unpack("!26H", source + vip + tcp)) + 20 + 6
        sums.append((total & 0xFFFF) + (total >> 16))
        name = ctypes.create_string_buffer(struct.pack("=HHI16sI", socket.AF_INET6, 0, 0, vip, 0))
        start = ctypes.addressof(packets) + number * HEADERS
        piece = ctypes.create_string_buffer(struct.pack("@PN", start, HEADERS))
        keep += [name, piece]
        headers += struct.pack("@PIPNPNi4xI4x", ctypes.addressof(name), 28, ctypes.addressof(piece), 1, 0, 0, 0, 0)
    batch = ctypes.create_string_buffer(headers)
    batch.keep = keep  # type: ignore[attr-defined] - the kernel reads them
    return packets, batch, sums


def main() -> None:
    """Run the command line."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    command, *words = sys.argv[1:]
    if command == "server":
        asyncio.run(serve(words[0]))
    elif command == "download":
        seconds, _, every = words[1].partition("/")
        result = download(int(words[0]), float(seconds), float(every or LINE_SECONDS), words[2:])
        print(json.dumps(asyncio.run(result)), flush=True)
    elif command == "echo":
        print(json.dumps(asyncio.run(echo(int(words[0]), int(words[1]), words[2:]))))
    elif command == "connect":
        print(json.dumps(asyncio.run(connect(int(words[0]), int(words[1]), words[2:]))))
    elif command == "pace":
        print(json.dumps(pace(float(words[0]), float(words[1]), *words[2:])))
    elif command == "opens":
        print(json.dumps(opens(float(words[0]), int(words[1]), words[2:])))
    elif command == "fetch":
        print(json.dumps(asyncio.run(fetch(int(words[0]), words[1]))))
    elif command == "push":
        print(json.dumps(asyncio.run(push(int(words[0]), words[1]))))
    elif command == "flood":
        print(json.dumps(flood(words[0], int(words[1]), words[2])))


if __name__ == "__main__":
    main()
