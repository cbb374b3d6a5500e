"""A node publishes how it is reached encrypted, in its own zones and for whoever asks `_dns.resolver.arpa`."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dnsvip.cli import main
from tests.client.encrypted.authority import NAME, Authority
from tests.node.serving import Node, node, within
from tests.node.test_secondary import apply
from tests.ports import free_port

SETTINGS = """
[dns.tls]
certificate = "dns.pem"
key = "dns.key"
names = ["{name}"]
publish = true
next_key = "next.pem"
[[dns.listen]]
name = "encrypted"
address = "tls://127.0.0.1:{tls}"
"""


class Publishing:
    """A node with a listener for TLS and its certificate."""

    def __init__(self, made: Node, folder: Path) -> None:
        self.node, self.tls, self.authority = made, free_port(), Authority(folder)
        self.renew("dns")
        self.renew("next")
        text = (made.folder / "node.toml").read_text()
        (made.folder / "node.toml").write_text(text + SETTINGS.format(name=NAME, tls=self.tls))

    def renew(self, label: str) -> None:
        """A certificate for another key."""
        chain, key = self.authority.pair(NAME, "127.0.0.1", label=label)
        (self.node.folder / f"{label}.pem").write_bytes(chain.read_bytes())
        (self.node.folder / f"{label}.key").write_bytes(key.read_bytes())

    def asked(self, name: str, rtype: str) -> list[str]:
        argv = ["dig", "@127.0.0.1", "-p", str(self.node.dns), "+short", "+tries=1", rtype, name]
        return sorted(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines())

    def dane(self) -> list[str]:
        """The TLSA records, joined."""
        return [line.replace(" ", "") for line in self.asked(f"_{self.tls}._tcp.{NAME}", "TLSA")]


@pytest.fixture
def published(tmp_path: Path) -> Iterator[Publishing]:
    (tmp_path / "node").mkdir()
    (tmp_path / "ca").mkdir()
    with node(tmp_path / "node") as made:
        yield Publishing(made, tmp_path / "ca")


def verified(one: Publishing, records: list[str]) -> bool:
    """Whether OpenSSL takes the server's certificate by these TLSA records alone."""
    where = f"127.0.0.1:{one.tls}"
    argv = ["openssl", "s_client", "-connect", where, "-verify_return_error", "-dane_tlsa_domain", NAME]
    for record in records:
        argv += ["-dane_tlsa_rrdata", f"3 1 1 {record[3:]}"]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return done.returncode == 0 and "Verification: OK" in done.stdout and "DANE TLSA 3 1 1" in done.stdout


def test_published(published: Publishing) -> None:
    """SVCB and TLSA records come into the zone with a new serial, validate, follow a certificate that is renewed, and
    make its key believed; what others have in the zone stays."""
    one = published
    apply(one.node, '[zone."example.test".dnssec]\nenabled = true\n')
    one.node.start("--token-file", "token")
    serial = int(one.asked("example.test", "SOA")[0].split()[2])
    svcb = [f'1 {NAME}. alpn="dot" port={one.tls} ipv4hint=127.0.0.1']
    within(40, lambda: one.asked(f"_dns.{NAME}", "SVCB") == svcb)
    assert len(one.dane()) == 2
    assert verified(one, one.dane())
    assert int(one.asked("example.test", "SOA")[0].split()[2]) == serial + 1
    assert one.asked("www.example.test", "AAAA")
    signed = ["dig", "@127.0.0.1", "-p", str(one.node.dns), "+dnssec", "+noall", "+answer", "SVCB", f"_dns.{NAME}"]
    assert "RRSIG" in subprocess.run(signed, capture_output=True, text=True, check=True).stdout
    assert one.asked("_dns.resolver.arpa", "SVCB") == svcb
    before = one.dane()
    one.renew("dns")
    within(40, lambda: one.dane() != before)
    assert len(set(one.dane()) & set(before)) == 1  # that of the next key
    within(40, lambda: verified(one, one.dane()))
    assert not verified(one, sorted(set(before) - set(one.dane())))
    (one.node.folder / "dns.pem").write_text("damaged")
    kept = one.dane()
    within(40, lambda: "its TLSA records stay" in one.node.log)
    assert one.dane() == kept
    shown = json.loads(one.node.noun("nodes", "list", "--json").stdout)
    assert shown[0]["detail"]["offers"][0]["name"] == NAME


def said(one: Publishing, capsys: pytest.CaptureFixture[str], *more: str) -> Any:
    """What `nodes discovery` prints."""
    with contextlib.chdir(one.node.folder), contextlib.suppress(SystemExit):
        main(["nodes", "discovery", "node.toml", *more])
    return capsys.readouterr()


def test_for_others(published: Publishing, capsys: pytest.CaptureFixture[str]) -> None:
    """`nodes discovery` shows records and options; without an encrypted listener it says what is missing."""
    shown = said(published, capsys)
    assert f"_dns.{NAME}. 300 IN SVCB 1 {NAME}." in shown.out
    assert shown.out.count("TLSA 3 1 1") == 2
    assert "dhcp-option=" not in shown.out.partition("; DHCP, Kea")[2]
    assert "dhcp-option=162," in shown.out
    assert "caution" not in shown.err
    published.authority.pair("other.example.test", label="other")
    for suffix in ("pem", "key"):
        other = published.authority.file.parent / f"other.{suffix}"
        (published.node.folder / f"dns.{suffix}").write_bytes(other.read_bytes())
    cautions = said(published, capsys).err
    assert f"is not for {NAME}: no client takes it" in cautions
    assert "is not for 127.0.0.1: whoever asks there" in cautions
    (published.node.folder / "dns.key").write_bytes((published.node.folder / "next.key").read_bytes())
    assert "is not for the key in" in said(published, capsys).err
    published.renew("dns")
    plain = json.loads(said(published, capsys, "--json").out)
    assert plain["announcements"][0]["dhcp4"]
    published.node.write_node()
    assert "no encrypted listener" in said(published, capsys).err
