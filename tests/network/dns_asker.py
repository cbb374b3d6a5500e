"""Asks a server the same few questions over and over, until told to stop, and says what was wrong.

    python -m tests.network.dns_asker SERVER[,SERVER ...] NAME

`version` in zone NAME has a TXT record with the number of the zone's version, `often` an address per client.
Prints one line of JSON: questions, lost (no answer in WAIT seconds), wrong (with examples), the last version seen.
"""

from __future__ import annotations

import json
import random
import signal
import socket
import sys
from types import FrameType

import dns.edns
import dns.message
import dns.rcode
import dns.rdatatype

WAIT = 3.0


class Asker:
    """One socket for each server, in turn."""

    def __init__(self, servers: list[str], zone: str) -> None:
        self.zone = zone
        self.sockets = [_connected(server) for server in servers]
        self.asked = self.lost = self.version = 0
        self.wrong: list[str] = []
        self.going = True

    def ask(self) -> None:
        """One question, random case and id; what is wrong with the answer is noted."""
        sock, kind = random.choice(self.sockets), random.choice(("TXT", "AAAA", "ECS"))
        name = f"version.{self.zone}" if kind == "TXT" else f"often.{self.zone}"
        name = "".join(random.choice((letter, letter.upper())) for letter in name)
        query = dns.message.make_query(name, "TXT" if kind == "TXT" else "AAAA", use_edns=kind == "ECS")
        if kind == "ECS":
            query.use_edns(options=[dns.edns.ECSOption(f"203.0.113.{random.randrange(4)}", 32)])
        self.asked += 1
        try:
            sock.send(query.to_wire())
            data = sock.recv(4096)
            while data[:2] != query.to_wire()[:2]:
                data = sock.recv(4096)
        except (TimeoutError, ConnectionRefusedError):
            self.lost += 1
            return
        answer = dns.message.from_wire(data)
        problem = self._problem(query, answer, kind)
        if problem:
            self.wrong.append(f"{problem}: {answer}")

    def _problem(self, query: dns.message.Message, answer: dns.message.Message, kind: str) -> str:
        if answer.rcode() != dns.rcode.NOERROR or not query.is_response(answer) or not answer.answer:
            return "no answer"
        if answer.question[0].name.labels != query.question[0].name.labels:
            return "another case"
        if kind == "TXT":
            version = int(answer.answer[0][0].strings[0])
            if version < self.version:
                return f"version {version} after {self.version}"
            self.version = version
        return ""


def _connected(server: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(WAIT)
    sock.connect((server, 53))
    return sock


def main(servers: str, zone: str) -> None:
    asker = Asker(servers.split(","), zone)

    def stop(_number: int, _frame: FrameType | None) -> None:
        asker.going = False

    signal.signal(signal.SIGTERM, stop)
    sys.stdout.write("asking\n")
    sys.stdout.flush()
    while asker.going:
        asker.ask()
    numbers = {"asked": asker.asked, "lost": asker.lost, "wrong": asker.wrong[:5], "version": asker.version}
    sys.stdout.write(f"{json.dumps(numbers)}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
