"""BIND, Knot and NSD as secondaries of a server on loopback: what each serves, and how it got it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rdatatype

from tests.dns.differential.peers import Bind, Knot, Nsd, Peer
from tests.dns.io.tls_world import NAME, Authority
from tests.dns.world import SECRET

SECONDS = 30.0

SECONDARY = "ns2.example.net"
"""The name in the certificate of a secondary."""


class Secondary:
    """What a test asks of each of them. `primary` is the port of the server that it follows, over TLS where `tls` has
    issued certificates for that and for this secondary (`SECONDARY`)."""

    def __init__(self, folder: Path, zone: str, primary: int, tls: Authority | None = None) -> None:
        self.zone, self.primary, self.tls = zone, primary, tls
        super().__init__(folder, {})  # type: ignore[call-arg]

    port: int
    folder: Path

    def serial(self, zone: str = "") -> int | None:
        """The serial that it serves."""
        try:
            query = dns.message.make_query(zone or self.zone, "SOA")
            answer = dns.query.udp(query, "127.0.0.1", 2, self.port).answer
        except (dns.exception.Timeout, OSError):
            return None
        return answer[0][0].serial if answer else None

    def records(self, name: str, rtype: str) -> set[str]:
        """The data of what it answers."""
        answer = dns.query.udp(dns.message.make_query(name, rtype), "127.0.0.1", 2, self.port).answer
        wanted = dns.rdatatype.from_text(rtype)
        return {rdata.to_text() for rrset in answer if rrset.rdtype == wanted for rdata in rrset}

    def follows(self, serial: int, zone: str = "") -> None:
        """Wait until it serves this serial."""
        until = time.monotonic() + SECONDS
        while (seen := self.serial(zone)) != serial:
            assert time.monotonic() < until, f"{type(self).__name__} has {seen}, not {serial}: {self.text()}"
            time.sleep(0.05)

    def text(self) -> str:
        """Its log."""
        return (self.folder / "log").read_text()


class SecondaryBind(Secondary, Bind):
    """BIND, which takes NOTIFY from the primary."""

    def ready(self) -> bool:
        return Peer.ready(self) and "running" in self.text()

    def configuration(self) -> str:
        key = f'key "transfer-key" {{ algorithm hmac-sha256; secret "{SECRET}"; }};\n'
        by = "key transfer-key"
        if self.tls is not None:
            own = self.tls.folder / SECONDARY
            key += f'tls primary {{ ca-file "{self.tls.file}"; remote-hostname "{NAME}";'
            key += f' cert-file "{own}.pem"; key-file "{own}.key"; }};\n'
            by += " tls primary"
        zone = (
            f'zone "{self.zone}" {{ type secondary; file "copy"; min-refresh-time 1; min-retry-time 1;'
            f" primaries {{ 127.0.0.1 port {self.primary} {by}; }};"
            " allow-notify { key transfer-key; 127.0.0.1; }; };\n"
        )
        return key + super().configuration() + zone


class SecondaryKnot(Secondary, Knot):
    """Knot, which takes NOTIFY from the primary."""

    def configuration(self) -> str:
        key = f'key:\n  - id: transfer-key\n    algorithm: hmac-sha256\n    secret: "{SECRET}"\n'
        remote = f"remote:\n  - id: primary\n    address: 127.0.0.1@{self.primary}\n    key: transfer-key\n"
        acl = "acl:\n  - id: notify\n    address: 127.0.0.1\n    key: transfer-key\n    action: notify\n"
        zone = f'zone:\n  - domain: {self.zone}\n    master: primary\n    acl: notify\n    file: "copy"\n'
        zone += "    refresh-min-interval: 2\n    retry-min-interval: 1\n    journal-content: changes\n"
        text = super().configuration().replace("zone:\n", "").replace("any: warning", "any: info")
        return text.replace("template:", key + remote + acl + "template:") + zone


class SecondaryNsd(Secondary, Nsd):
    """NSD, which takes NOTIFY from the primary."""

    def configuration(self) -> str:
        key = f'key:\n  name: "transfer-key"\n  algorithm: hmac-sha256\n  secret: "{SECRET}"\n'
        zone = f'zone:\n  name: "{self.zone}"\n  zonefile: "copy"\n  allow-notify: 127.0.0.1 transfer-key\n'
        by, verbose = "transfer-key", "verbosity: 2"
        if self.tls is not None:
            own = self.tls.folder / SECONDARY
            key += f'tls-auth:\n  name: "primary"\n  auth-domain-name: "{NAME}"\n'
            key += f'  client-cert: "{own}.pem"\n  client-key: "{own}.key"\n'
            by, verbose = f"{by} primary", f'{verbose}\n  tls-cert-bundle: "{self.tls.file}"'
        zone += f"  request-xfr: 127.0.0.1@{self.primary} {by}\n  min-refresh-time: 1\n  min-retry-time: 1\n"
        return super().configuration().replace("verbosity: 1", verbose) + key + zone


SECONDARIES: Mapping[str, type[Secondary]] = {"bind": SecondaryBind, "knot": SecondaryKnot, "nsd": SecondaryNsd}
