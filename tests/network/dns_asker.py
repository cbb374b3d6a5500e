"""Asks a server the same few questions over and over, until told to stop, and says what was wrong.

    python -m tests.network.dns_asker SERVER[,SERVER ...] NAME [SIGNED]

`version` in zone NAME has a TXT record with the number of the zone's version, `often` an address per client. Zone
SIGNED is signed and has `version` too; `v2` is there from version 2 on, and so on; `www` has an address per client that
stays until something changes. Every signature is validated by the zone's own keys. Prints one line of JSON: questions,
lost (no answer in WAIT seconds) and in which seconds, wrong (with examples), the last version seen, and the addresses
that `www` has had.
"""

from __future__ import annotations

import json
import random
import signal
import socket
import sys
import time
from types import FrameType

import dns.dnssec
import dns.edns
import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

WAIT = 3.0
PAUSE = 0.01
"""Seconds after a question that is lost, as where nobody listens all are, at once."""
NEWEST = 5
"""The last version that `v...` is asked for."""


class Asker:
    """One socket for each server, in turn."""

    def __init__(self, servers: list[str], zone: str, signed: str = "") -> None:
        self.zone, self.signed = zone, signed
        self.sockets = [_connected(server) for server in servers]
        self.asked = self.lost = self.version = 0
        self.lost_at: set[int] = set()
        self.wrong: list[str] = []
        self.addresses: list[str] = []
        self.keys: dict[int, dns.rrset.RRset] = {}
        self.going = True

    def ask(self) -> None:
        """One question, random case and id; what is wrong with the answer is noted."""
        kind = random.choice(("TXT", "AAAA", "ECS", *(("version", "www", "v") if self.signed else ())))
        name = f"version.{self.zone}" if kind == "TXT" else f"often.{self.zone}"
        if kind in ("version", "www", "v"):
            name = f"{kind}.{self.signed}" if kind != "v" else f"v{random.randrange(2, NEWEST + 1)}.{self.signed}"
        rtype = "AAAA" if kind in ("AAAA", "ECS", "www") else "TXT"
        query = _query("".join(random.choice((letter, letter.upper())) for letter in name), rtype, kind)
        answer = self._exchange(query)
        if answer is not None and (problem := self._problem(query, answer, kind)):
            self.wrong.append(f"{problem}: {answer}")

    def _exchange(self, query: dns.message.Message) -> dns.message.Message | None:
        """The answer; None where there is none, which is counted."""
        sock = random.choice(self.sockets)
        self.asked += 1
        try:
            sock.send(query.to_wire())
            data = sock.recv(4096)
            while data[:2] != query.to_wire()[:2]:
                data = sock.recv(4096)
        except (TimeoutError, ConnectionRefusedError):
            self.lost += 1
            self.lost_at.add(int(time.time()))
            time.sleep(PAUSE)
            return None
        return dns.message.from_wire(data)

    def _problem(self, query: dns.message.Message, answer: dns.message.Message, kind: str) -> str:
        if not query.is_response(answer):
            return "no answer"
        if answer.question[0].name.labels != query.question[0].name.labels:
            return "another case"
        if kind == "v":
            return self._presence(answer) or self._bogus(answer)
        if answer.rcode() != dns.rcode.NOERROR or not answer.answer:
            return "no answer"
        if kind in ("TXT", "version"):
            return self._older(int(answer.answer[0][0].strings[0])) or (kind == "version" and self._bogus(answer)) or ""
        return (self._returned(answer) or self._bogus(answer)) if kind == "www" else ""

    def _older(self, version: int) -> str:
        if version < self.version:
            return f"version {version} after {self.version}"
        self.version = version
        return ""

    def _presence(self, answer: dns.message.Message) -> str:
        """A name that is there from a version on is the evidence of that, and its absence of one before."""
        number = int(answer.question[0].name.labels[0][1:])
        if answer.answer:
            self.version = max(self.version, number)
            return ""
        return f"no {number} in version {self.version}" if number <= self.version else ""

    def _returned(self, answer: dns.message.Message) -> str:
        """An address that was replaced never comes again."""
        address = answer.answer[0][0].address
        if self.addresses[-1:] == [address]:
            return ""
        if address in self.addresses:
            return f"{address} came back"
        self.addresses.append(address)
        return ""

    def _bogus(self, answer: dns.message.Message) -> str:
        """Each set of the answer and of its proof has a signature that is right."""
        zone = dns.name.from_text(self.signed)
        sets = [rrset for rrset in (*answer.answer, *answer.authority) if rrset.rdtype != dns.rdatatype.RRSIG]
        signatures = {
            (rrset.name, rrset.covers): rrset
            for rrset in (*answer.answer, *answer.authority)
            if rrset.rdtype == dns.rdatatype.RRSIG
        }
        for rrset in sets:
            signature = signatures.get((rrset.name, rrset.rdtype))
            if signature is None:
                return f"no signature of {rrset.name}"
            keys = self._key(signature[0].key_tag)
            if keys is None:
                return f"unknown key {signature[0].key_tag}"
            try:
                dns.dnssec.validate(rrset, signature, {zone: keys})
            except dns.exception.DNSException as error:
                return f"bogus: {error}"
        return ""

    def _key(self, tag: int) -> dns.rrset.RRset | None:
        """The set with a key of the zone, asked for once."""
        if tag not in self.keys:
            answer = self._exchange(_query(self.signed, "DNSKEY", ""))
            for key in answer.answer[0] if answer and answer.answer else ():
                self.keys[dns.dnssec.key_id(key)] = answer.answer[0] if answer else None
        return self.keys.get(tag)


def _query(name: str, rtype: str, kind: str) -> dns.message.Message:
    query = dns.message.make_query(name, rtype, use_edns=kind == "ECS")
    host = random.randrange(4)
    if kind == "ECS":
        query.use_edns(options=[dns.edns.ECSOption(f"203.0.113.{host}", 32)])
    elif kind == "www":
        query.use_edns(ednsflags=_DO, payload=1232, options=[dns.edns.ECSOption(f"203.0.113.{host}", 32)])
    elif kind in ("version", "v"):
        query.use_edns(ednsflags=_DO, payload=1232)
    return query


_DO = 0x8000


def _connected(server: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(WAIT)
    sock.connect((server, 53))
    return sock


def main(servers: str, zone: str, signed: str = "") -> None:
    asker = Asker(servers.split(","), zone, signed)

    def stop(_number: int, _frame: FrameType | None) -> None:
        asker.going = False

    signal.signal(signal.SIGTERM, stop)
    sys.stdout.write("asking\n")
    sys.stdout.flush()
    while asker.going:
        asker.ask()
    numbers = {"asked": asker.asked, "lost": asker.lost, "wrong": asker.wrong[:5], "version": asker.version}
    more = {"addresses": asker.addresses, "lost_at": sorted(asker.lost_at)}
    sys.stdout.write(f"{json.dumps(numbers | more)}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
