"""Zones from a primary: by TCP and TLS, whole and by differences; what is not taken, and how much at most."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace

import dns.rdatatype
import dns.zone
import pytest

from dnsvip.dns.io import fetching
from dnsvip.dns.io.fetching import fetch, serial_at
from dnsvip.dns.replication.fetched import TransferError
from dnsvip.dns.zones.zone import compile_zone
from dnsvip.site import TsigKey, Zone
from dnsvip.site.refreshes import Timers
from tests.dns.primaries import PrimaryBind
from tests.dns.world import SECRET
from tests.node.serving import within
from tests.ports import free_port

NAME = "odd.test"
HEAD = f"$ORIGIN {NAME}.\n$TTL 60\n@ SOA ns hostmaster {{}} 3600 600 86400 60\n@ NS ns\nns A 192.0.2.1\n"
ODD = r"""
a TXT "with \"quotes\"" "; and \\ more" "\000\255"
b TYPE65280 \# 4 0a000001
c LOC 51 30 12.748 N 0 7 39.611 W 0m 0m 0m 0m
d HTTPS 1 . alpn="h2,h3" ipv4hint=192.0.2.7
e NAPTR 100 10 "u" "E2U+sip" "!^.*$!sip:info@example.test!" .
f URI 10 1 "https://www.example.test/"
g CAA 0 issue "ca.example.test"
h HIP 2 200100107B1A74DF365639CC39F1D578 AwEAAbdxyhNuSutc rvs.example.test.
i\032j\.k 300 A 192.0.2.9
UPPER CNAME Mixed.Example.TEST.
*.wild MX 10 mail
l SSHFP 1 1 450C7D19D5DA9A3A5B7C19992D1FBDE15D8DAD34
m DS 60485 5 1 2BB183AF5F22588179A53B0A98631FAD1A292118
m NS ns.m
ns.m AAAA 2001:db8::1
"""
KEY = TsigKey("transfer-key", SECRET)


class Bind(PrimaryBind):
    """BIND with a second port for TLS, whose certificate is for primary.example.test."""

    def configuration(self) -> str:
        self.tls_port = free_port()
        names = ["-subj", "/CN=primary", "-addext", "subjectAltName=DNS:primary.example.test"]
        files = ["-keyout", self.folder / "key.pem", "-out", self.folder / "cert.pem"]
        argv = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "1",
        ]
        subprocess.run([*argv, *names, *files], check=True, capture_output=True)
        tls = f'tls own {{ key-file "{self.folder}/key.pem"; cert-file "{self.folder}/cert.pem"; }};\n'
        listen = f"listen-on port {self.tls_port} tls own {{ 127.0.0.1; }}; listen-on port {self.port}"
        return tls + super().configuration().replace(f"listen-on port {self.port}", listen)


@pytest.fixture(scope="module")
def primary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bind]:
    with Bind(tmp_path_factory.mktemp("primary") / "bind", NAME, HEAD.format(1) + ODD, 9) as peer:
        yield peer  # type: ignore[misc]


def zone(primary: Bind, text: str = "") -> Zone:
    """Its secondary zone with what is stored of it."""
    return Zone(NAME, text, primaries=(f"127.0.0.1:{primary.port}",), primaries_tsig="transfer-key")


def fetched(primary: Bind, text: str = "") -> fetching.Fetched:
    """What comes from it."""
    return fetch(zone(primary, text), f"127.0.0.1:{primary.port}", KEY)


def change(primary: Bind, text: str, serial: int) -> None:
    """Let it serve another zone."""
    primary.change(text)
    within(20, lambda: f"zone {NAME}/IN: loaded serial {serial}" in primary.text())


def test_every_record_comes_as_it_is(primary: Bind) -> None:
    """The stored text has the primary's records, whatever their types: names in their case, data octet by octet."""
    got = fetched(primary)
    assert (got.way, got.serial, got.timers) == ("AXFR", 1, Timers(3600, 600, 86400))
    ours = dns.zone.from_text(got.text, NAME, relativize=False)
    assert ours == dns.zone.from_text(HEAD.format(1) + ODD, NAME, relativize=False)
    assert "Mixed.Example.TEST." in got.text
    assert compile_zone(Zone(NAME, got.text)).apex == (b"odd", b"test")


async def test_serial(primary: Bind) -> None:
    """The serial comes by UDP and by TLS, signed; a zone that the primary lacks, or another key, is said."""
    place = f"127.0.0.1:{primary.port}"
    assert await serial_at(place, zone(primary), KEY) == fetched(primary).serial
    tls = replace(zone(primary), primaries_ca=(primary.folder / "cert.pem").read_text())
    assert (
        await serial_at(f"tls://127.0.0.1:{primary.tls_port}#primary.example.test", tls, KEY) == fetched(primary).serial
    )
    with pytest.raises(TransferError, match="answers REFUSED"):
        await serial_at(place, replace(zone(primary), name="none.test"), None)
    with pytest.raises(TransferError, match="sends what is no transfer: Peer"):
        await serial_at(place, zone(primary), replace(KEY, secret="d3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmch"))
    with pytest.raises(TransferError, match=r"does not answer|cannot be reached"):
        await serial_at("127.0.0.1:9", zone(primary), None)


def test_over_tls(primary: Bind) -> None:
    """A transfer over TLS 1.3 needs a certificate of the authorities given, for the name given (RFC 9103)."""
    place = f"tls://127.0.0.1:{primary.tls_port}#primary.example.test"
    trusted = replace(zone(primary), primaries_ca=(primary.folder / "cert.pem").read_text())
    assert fetch(trusted, place, KEY).text == fetched(primary).text
    with pytest.raises(TransferError, match=r"certificate that is not taken: .*self.signed"):
        fetch(zone(primary), place, KEY)
    with pytest.raises(TransferError, match=r"certificate that is not taken: .*ostname"):
        fetch(trusted, place.replace("#primary", "#other"), KEY)


def test_wrong_keys(primary: Bind) -> None:
    """Without the key, or with another secret, nothing comes; the secret is in no message."""
    wrong = "d3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmch"
    for key in (None, replace(KEY, secret=wrong), TsigKey("other-key", SECRET)):
        with pytest.raises(TransferError) as refused:
            fetch(zone(primary), f"127.0.0.1:{primary.port}", key)
        assert wrong not in str(refused.value)


def test_differences(primary: Bind) -> None:
    """What is stored becomes the newest by differences; where they do not fit it, the whole zone comes."""
    before = fetched(primary)
    change(primary, HEAD.format(2) + ODD.replace("192.0.2.9", "192.0.2.10"), 2)
    after = fetched(primary, before.text)
    assert (after.way, after.serial) == ("IXFR", 2)
    assert sorted(after.text.splitlines()) == sorted(fetched(primary).text.splitlines())
    damaged = before.text.replace("192.0.2.9", "192.0.2.11")
    again = fetched(primary, damaged)
    assert again.way == "AXFR"
    assert "192.0.2.10" in again.text


@pytest.mark.parametrize(
    ("bound", "value", "what"),
    [("MOST_BYTES", 200, "more than 200 bytes"), ("WHOLE_SECONDS", 0.0, "takes longer than 0 s")],
)
def test_bounds(primary: Bind, monkeypatch: pytest.MonkeyPatch, bound: str, value: float, what: str) -> None:
    """A transfer that is too large or takes too long is given up."""
    monkeypatch.setattr(fetching, bound, value)
    with pytest.raises(TransferError, match=what):
        fetched(primary)


def test_too_many_records(primary: Bind, monkeypatch: pytest.MonkeyPatch) -> None:
    """A zone of more records than can be served is given up."""
    monkeypatch.setattr("dnsvip.dns.replication.fetched.MOST_RECORDS", 10)
    with pytest.raises(TransferError, match="more than 10 records"):
        fetched(primary)


def test_digests(primary: Bind) -> None:
    """A zone with a ZONEMD (RFC 8976) is taken where that fits, and not where it does not."""
    text = HEAD.format(10) + "a A 192.0.2.7\n"
    made = dns.zone.from_text(text, NAME, relativize=False)
    digest = made.compute_digest(1).to_text()
    change(primary, f"{text}@ ZONEMD {digest}\n", 10)
    assert "ZONEMD" in fetched(primary).text
    change(primary, f"{text.replace(' 10 3600', ' 11 3600')}@ ZONEMD {digest.replace('10 1', '11 1', 1)}\n", 11)
    with pytest.raises(TransferError, match="ZONEMD does not fit"):
        fetched(primary)


def test_what_cannot_be_served(primary: Bind) -> None:
    """A zone that this server would not take as a zone file is not taken, and it says why."""
    signature = "a RRSIG A 13 3 60 20300101000000 20200101000000 1 odd.test. AAAA\n"
    change(primary, HEAD.format(20) + "a A 192.0.2.7\n" + signature, 20)
    with pytest.raises(TransferError, match="cannot be served: has RRSIG records but no DNSKEY"):
        fetched(primary)
