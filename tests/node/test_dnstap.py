"""dnstap of a real node, as real receivers of Frame Streams read it: `fstrm_capture`, printed by `dnstap-ldns`."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.message
from dnstap_pb import Dnstap

from tests.node.serving import NODE, Node, within
from tests.node.test_health_endpoints import Watched

METRICS = '[metrics]\nlisten = "127.0.0.1:{metrics}"\n'
TAP = '[log.dnstap]\none_in = 1\nreceiver = "unix:tap.sock"\n'


@contextmanager
def receiver(*where: str, file: Path, end: signal.Signals = signal.SIGTERM) -> Iterator[None]:
    """`fstrm_capture` listening there, writing into a file until it is told to end, or killed."""
    argv = ["fstrm_capture", "-t", "protobuf:dnstap.Dnstap", *where, "-w", str(file), "-ddd"]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        while "opening" not in (line := process.stderr.readline()) and "listen" not in line:
            assert line, "it has ended"
        try:
            yield
        finally:
            process.send_signal(end)
            process.communicate(timeout=30)


def printed(file: Path) -> list[str]:
    """The messages in a file, a line each: time, type, address, transport, bytes, name, class and type."""
    done = subprocess.run(["dnstap-ldns", "-q", "-r", str(file)], capture_output=True, check=True, text=True)
    return done.stdout.splitlines()


def frames(file: Path) -> list[Dnstap]:
    """The messages in a file."""
    octets, at, some = file.read_bytes(), 0, []
    while at < len(octets):
        size = int.from_bytes(octets[at : at + 4], "big")
        if size:
            some.append(Dnstap.FromString(octets[at + 4 : at + 4 + size]))
        else:  # a control frame
            size = 4 + int.from_bytes(octets[at + 4 : at + 8], "big")
        at += 4 + size
    return some


def sent(watched: Watched) -> float:
    """Messages that were written."""
    return watched.value('dnsvip_dns_dnstap_messages_total{result="written"}')


def test_truncated(made: Node, tmp_path: Path) -> None:
    """By default messages tell of a query and its outcome, and neither of the client nor of its address."""
    watched = Watched(made, f"{NODE}{METRICS}{TAP}")
    file = tmp_path / "tap"
    with receiver("-u", str(made.folder / "tap.sock"), file=file):
        made.start("--token-file", "token")
        assert made.dig("+subnet=198.51.100.7/32", "+nocookie", "AAAA", "www.example.test")
        made.dig("+tcp", "NS", "example.test")
        made.dig("A", "nothing.example.test")
        within(30, lambda: sent(watched) == 3)
        made.stop()
    lines = [" ".join(line.split()[2:]) for line in printed(file)]
    assert [line.partition(" 127.0.0.0")[0] for line in lines] == ["AR"] * 3, lines
    assert ["UDP" in line for line in lines] == [True, False, True]
    assert '"www.example.test." IN AAAA' in lines[0]
    first = frames(file)[0]
    assert first.extra == b"public"
    assert first.version.startswith(b"dnsvip ")
    message = dns.message.from_wire(first.message.response_message)
    assert (message.options, message.edns, message.answer) == ((), 0, [])
    assert dns.message.from_wire(frames(file)[2].message.response_message).rcode() == dns.rcode.NXDOMAIN
    assert all(bytes((198, 51, 100)) not in one.SerializeToString() for one in frames(file))
    assert all(bytes.fromhex("20010db8") not in one.SerializeToString() for one in frames(file))


def test_whole(made: Node, tmp_path: Path) -> None:
    """With whole addresses messages are as on the wire, here over TCP to the receiver, and beside the query log."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    tap = f'[log.dnstap]\none_in = 1\nreceiver = "127.0.0.1:{port}"\nkeep4 = 32\nkeep6 = 128\n'
    log = '[log.queries]\none_in = 2\nfile = "queries.log"\n'
    watched, file = Watched(made, f"{NODE}{METRICS}{tap}{log}"), tmp_path / "tap"
    with receiver("-a", "127.0.0.1", "-p", str(port), file=file):
        made.start("--token-file", "token")
        for _ in range(4):
            (answer,) = made.dig("+subnet=198.51.100.7/32", "AAAA", "www.example.test").split()
        within(30, lambda: sent(watched) == 4)
        within(30, lambda: watched.value('dnsvip_dns_query_log_lines_total{result="written"}') == 2)
        made.stop()
    some = frames(file)
    assert [socket.inet_ntoa(one.message.query_address) for one in some] == ["127.0.0.1"] * 4
    message = dns.message.from_wire(some[-1].message.response_message)
    assert message.answer[0][0].to_text() == answer
    assert any(option.otype == dns.edns.ECS for option in message.options)


def test_a_receiver_that_comes_and_goes(made: Node, tmp_path: Path) -> None:
    """Without a receiver the node answers, and drops are counted; one that starts anew gets messages again."""
    watched = Watched(made, f"{NODE}{METRICS}{TAP}")
    made.start("--token-file", "token")
    made.dig("NS", "example.test")
    within(30, lambda: watched.value('dnsvip_dns_dnstap_messages_total{result="dropped"}') == 1)
    where = ("-u", str(made.folder / "tap.sock"))
    for end in (signal.SIGKILL, signal.SIGTERM):
        with receiver(*where, file=tmp_path / end.name, end=end):
            before = sent(watched)

            def arrived(before: float = before) -> bool:
                made.dig("NS", "example.test")
                return sent(watched) > before

            within(30, arrived)
    made.stop()
    assert printed(tmp_path / "SIGTERM")
    assert made.log.count("cannot write samples") >= 2
