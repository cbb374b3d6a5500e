"""The enrolment document: created from a site, parsed, and rejected with a reason."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from dnsvip.address.proof import Bind, client_key
from dnsvip.client.enrol import Encryption, cautions, make_enrolment, unused
from dnsvip.client.enrolment import Enrolment, dump, parse
from dnsvip.client.io import files
from dnsvip.errors import ClientError
from dnsvip.site import Anonymous, ClientState, DnsToken, Match, Proof, Site, Snapshot, Step
from dnsvip.site.io.files import load_site
from dnsvip.site.server_forms import parse_server

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "site.toml"
SERVERS = ("192.0.2.53:53", "[2001:db8:53::1]:53")
MASTER = bytes(range(32))


@pytest.fixture(scope="module")
def site() -> Site:
    return load_site(EXAMPLE)


@pytest.fixture
def snapshot(site: Site) -> Snapshot:
    return Snapshot(1, site, {}, {"web": MASTER})


def with_client(snapshot: Snapshot, **changes: Any) -> Snapshot:
    clients = dict(snapshot.site.clients)
    clients["acme"] = replace(clients["acme"], **changes)
    return replace(snapshot, site=replace(snapshot.site, clients=clients))


def test_enrolment_of_the_example(snapshot: Snapshot) -> None:
    """The enrolment holds the client's key of the current generation, its identity, and its service locations."""
    enrolled = make_enrolment(with_client(snapshot, key_generation=3), "acme", SERVERS)
    (web,) = enrolled.clusters
    assert (enrolled.client, enrolled.id, enrolled.servers, enrolled.zones) == (
        "acme",
        1001,
        SERVERS,
        ("example.test",),
    )
    assert (web.name, web.services, web.slot_seconds) == ("web", ("www.example.test",), 30)
    assert web.proof
    assert web.proof.key == client_key(MASTER, web.address_layout, 1001, 3)
    assert (web.proof.bind, web.proof.single_use, web.proof.key_generation) == (Bind.ADDRESS, False, 3)
    assert enrolled.tsig
    assert (enrolled.tsig.name, enrolled.tsig.algorithm) == ("acme-key", "hmac-sha256")


def test_document_round_trip(snapshot: Snapshot) -> None:
    """A dumped enrolment parses to an equal one, with or without a TSIG identity."""
    for name in ("acme", "newsreader"):
        enrolled = make_enrolment(snapshot, name, SERVERS)
        assert parse(dump(enrolled), "file") == enrolled
    assert make_enrolment(snapshot, "newsreader", SERVERS).tsig is None


def test_repr_hides_secrets(snapshot: Snapshot) -> None:
    """No repr of an enrolment contains a key or a TSIG secret."""
    enrolled = make_enrolment(snapshot, "acme", SERVERS)
    proof, tsig = enrolled.clusters[0].proof, enrolled.tsig
    assert proof
    assert tsig
    for secret in (proof.key.hex(), str(proof.key), tsig.secret):
        assert secret not in repr(enrolled)


def test_no_proof_without_a_client_in_the_address(snapshot: Snapshot) -> None:
    """A layout without a client field gets no key, since no dispatcher could verify the proof."""
    cluster = replace(snapshot.site.clusters["web"], layout=(("tier", 4), ("nonce", 33)))
    site = replace(snapshot.site, clusters={**snapshot.site.clusters, "web": cluster})
    assert make_enrolment(replace(snapshot, site=site), "acme", SERVERS).clusters[0].proof is None


@pytest.mark.parametrize(
    ("change", "name", "message"),
    [
        (lambda s: s, "nobody", "'nobody' is not a client of this site (there is: acme, newsreader"),
        (lambda s: with_client(s, state=ClientState.REVOKED), "acme", "'acme' is revoked"),
        (lambda s: replace(s, masters={}), "acme", "no client master key"),
        (lambda s: replace(s, site=replace(s.site, services={})), "acme", "no service name"),
    ],
)
def test_refused(snapshot: Snapshot, change: Callable[[Snapshot], Snapshot], name: str, message: str) -> None:
    """An unknown or revoked client, or a site without services or keys, raises an error with the reason."""
    with pytest.raises(ClientError) as error:
        make_enrolment(change(snapshot), name, SERVERS)
    assert message in str(error.value)


TOKEN = "dv" + "a2b3" * 7
DOT, DOH = "tls://192.0.2.53:853#dns.example.test", "https://192.0.2.53:443/dns-query#dns.example.test"


@pytest.mark.parametrize(
    ("servers", "token", "fallback", "asked"),
    [
        ((DOT, DOH), None, False, (DOT, DOH)),
        (("192.0.2.53:53", DOT), None, False, ("192.0.2.53:53", DOT)),
        ((DOT, "192.0.2.53:53", DOH), None, False, (DOT, DOH)),
        ((DOT, "192.0.2.53:53"), None, True, (DOT, "192.0.2.53:53")),
    ],
)
def test_asked_servers(
    snapshot: Snapshot, servers: tuple[str, ...], token: str | None, fallback: bool, asked: tuple[str, ...]
) -> None:
    """No server in plain text is asked behind an encrypted one, unless the enrolment says so; who makes it is told."""
    made = make_enrolment(snapshot, "acme", servers, Encryption(token=token, plaintext_fallback=fallback))
    assert made.asked_servers == asked
    assert [server for server in servers if server not in asked] == [
        text.partition(" is not asked")[0] for text in unused(made)
    ]
    assert parse(dump(made), "file") == made


def test_token_servers(snapshot: Snapshot) -> None:
    """A client with a token alone asks no server in plain text; one without an encrypted server, or whose servers have
    no names, is refused, and so is the token of another."""
    site = snapshot.site
    tokens = {"news": DnsToken("news", sha256(TOKEN.encode()).hexdigest())}
    newsreader = replace(site.clients["newsreader"], match=(Match(Step.TOKEN, "news"),))
    clients = {**site.clients, "newsreader": newsreader}
    snapshot = replace(snapshot, site=replace(site, dns_tokens=tokens, clients=clients))
    made = make_enrolment(snapshot, "newsreader", ("192.0.2.53:53", DOH), Encryption(token=TOKEN))
    assert (made.asked_servers, made.token) == ((DOH,), TOKEN)
    assert TOKEN not in repr(made)
    assert parse(dump(made), "file") == made
    assert cautions(snapshot, "newsreader") == []
    for servers, why in ((SERVERS, "none can be asked"), (("tls://192.0.2.53:853",), "has no name")):
        with pytest.raises(ClientError, match=why):
            make_enrolment(snapshot, "newsreader", servers, Encryption(token=TOKEN))
    for name, token in (("acme", TOKEN), ("newsreader", TOKEN.replace("a", "b"))):
        with pytest.raises(ClientError, match="identifies no client"):
            make_enrolment(snapshot, name, (DOH,), Encryption(token=token))


@pytest.mark.parametrize(
    ("server", "why"),
    [
        ("dns.example.test:53", "an address in place of a name"),
        ("tls://dns.example.test:853", "an address in place of a name"),
        ("tls://192.0.2.53", "ADDRESS:PORT|:PORT"),
        ("tls://192.0.2.53:853/dns-query#x", "only https:// and h3:// have a path"),
        ("tls://192.0.2.53:853#DNS.example.test", "in lower case"),
        ("tls://192.0.2.53:853#*.example.test", "in lower case"),
        ("https://192.0.2.53:443/dns query", "letters, digits"),
        ("http://192.0.2.53:80/dns-query", "begin with tls://, https://, h3:// or quic://"),
        ("192.0.2.53:53#dns.example.test", "only servers that are asked over"),
        ("quic://192.0.2.53:0#x", ":PORT, 1 to 65535"),
    ],
)
def test_server_forms(server: str, why: str) -> None:
    """A server of a wrong form is refused with the right one."""
    with pytest.raises(ValueError, match=why):
        parse_server(server)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"state": ClientState.DISABLED}, "is disabled"),
        ({"match": (Match(Step.SOURCE, "2001:db8:77::/48"),)}, "no TSIG identity"),
        ({"proof": Proof(Bind.ADDRESS, single_use=True)}, "single use"),
    ],
)
def test_cautions(snapshot: Snapshot, changes: dict[str, Any], words: str) -> None:
    """Settings that are valid but probably unintended produce a warning."""
    assert cautions(snapshot, "acme") == []
    (caution,) = cautions(with_client(snapshot, **changes), "acme")
    assert words in caution


def test_caution_about_encoded_strangers(snapshot: Snapshot) -> None:
    """A client without TSIG identity is warned of a cluster that gives unknown clients encoded addresses."""
    cluster = replace(snapshot.site.clusters["web"], anonymous=Anonymous.ENCODED)
    site = replace(snapshot.site, clusters={**snapshot.site.clusters, "web": cluster})
    (caution,) = cautions(replace(snapshot, site=site), "newsreader")
    assert "in vain" in caution


def broken(made: Enrolment, *path: str | int, value: Any = None) -> str:
    data = json.loads(dump(made))
    at = data
    for step in path[:-1]:
        at = at[step]
    if value is None:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return json.dumps(data)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("version",), 2, "version 2: this dnsvip reads version 1"),
        (("version",), None, "is not an enrolment"),
        (("client",), None, "client: missing"),
        (("servers",), ["192.0.2.53"], "servers.0: must"),
        (("servers",), [], "servers: "),
        (("surprise",), 1, "surprise: unknown key"),
        (("clusters", 0, "prefix"), "2001:db8::/zz", "clusters.0.prefix: "),
        (("clusters", 0, "plain"), "2001:db8::1", "clusters.0.plain: 2001:db8::1 is outside"),
        (("clusters", 0, "tag_bits"), 20, "clusters.0: prefix 64 + mode 1"),
        (("clusters", 0, "proof", "key"), "00ff", "clusters.0.proof.key: must be 16 bytes"),
        (("clusters", 0, "proof", "key"), "not hex", "clusters.0.proof.key: must be hexadecimal"),
        (("clusters", 0, "proof", "bind"), "port", "clusters.0.proof.bind: "),
        (("clusters", 0, "layout"), [["tier", 4], ["nonce", 33]], "clusters.0.proof: must be null"),
        (("tsig", "secret"), "*", "tsig.secret: must be base64"),
        (("tsig", "algorithm"), "hmac-md5", "tsig.algorithm: "),
        (("token",), "not hex", "token: "),
        (("trust",), {"pins": ["x"]}, "trust.pins.0: "),
        (("trust",), {"ca": "not PEM"}, "trust.ca: "),
    ],
)
def test_wrong_document(snapshot: Snapshot, path: tuple[str | int, ...], value: Any, message: str) -> None:
    """Each invalid value is named with its file and path; secrets are not repeated."""
    with pytest.raises(ClientError) as error:
        parse(broken(make_enrolment(snapshot, "acme", SERVERS), *path, value=value), "my.json")
    text = str(error.value)
    assert text.startswith("my.json: ")
    assert message in text
    assert "00ff" not in text
    assert "not hex" not in text


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "{}"])
def test_not_an_enrolment(text: str) -> None:
    """The error says that a file of another kind is not an enrolment."""
    with pytest.raises(ClientError, match="is not an enrolment"):
        parse(text, "my.json")


def test_names(snapshot: Snapshot) -> None:
    """The enrolment covers the services and the other names of their zones, and nothing else."""
    enrolled = make_enrolment(snapshot, "acme", SERVERS)
    assert enrolled.is_service("www.example.test")
    assert enrolled.covers("shop.example.test")
    assert not enrolled.is_service("shop.example.test")
    assert not enrolled.covers("example.org")
    assert not enrolled.covers("notexample.test")


def test_file_is_private(snapshot: Snapshot, tmp_path: Path) -> None:
    """A saved file gets mode 0600 in any case, and one that others can read is refused."""
    enrolled, path = make_enrolment(snapshot, "acme", SERVERS), tmp_path / "deep" / "enrolment.json"
    files.save(enrolled, path)
    path.chmod(0o644)
    with pytest.raises(ClientError, match="chmod 600"):
        files.load(path)
    files.save(enrolled, path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert files.load(path) == enrolled
    assert list(path.parent.iterdir()) == [path]


def test_which_file_is_loaded(snapshot: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No imported enrolment gives None; an explicit path to a missing file is an error."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv(files.ENVIRONMENT, raising=False)
    assert files.find_enrolment() is None
    enrolled = make_enrolment(snapshot, "acme", SERVERS)
    files.save(enrolled, tmp_path / "dnsvip" / "enrolment.json")
    assert files.find_enrolment() == enrolled
    monkeypatch.setenv(files.ENVIRONMENT, str(tmp_path / "missing.json"))
    with pytest.raises(ClientError, match="cannot be read"):
        files.find_enrolment()


def test_a_user_without_a_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no home folder, as for the user of a container, it is said how to name the file."""
    for name in ("HOME", "XDG_CONFIG_HOME", files.ENVIRONMENT):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54_321)
    with pytest.raises(ClientError, match=r"no home folder: name the enrolment's file in DNSVIP_ENROLMENT"):
        files.find_enrolment()
