"""Client certificates by the API: issued for a key that the client made, for no other name; in enrolments; refused."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.admin.conftest import Api

KEY = ec.generate_private_key(ec.SECP256R1())


def request(name: str = "acme", key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = KEY) -> str:
    """A request for a certificate that names somebody."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    other = x509.SubjectAlternativeName([x509.DNSName("newsreader"), x509.UniformResourceIdentifier("dnsvip:x")])
    builder = x509.CertificateSigningRequestBuilder(subject).add_extension(other, critical=False)
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM).decode()


async def known_by_certificate(api: Api) -> None:
    """Let a certificate identify acme."""
    match = (await api.ok("GET", "clients/acme"))["match"]
    await api.ok("PATCH", "clients/acme", {"match": [*match, {"tls": "acme"}]})


async def test_a_certificate_names_its_client_whatever_was_asked_for(api: Api) -> None:
    """The key is that of the request; common name, URI and use are ours, and nothing else is in it."""
    await known_by_certificate(api)
    answer = await api("POST", "clients/acme/certificate", {"csr": request("newsreader"), "days": 7})
    assert (answer.status, answer.headers["Cache-Control"]) == (201, "no-store")
    leaf, authority = x509.load_pem_x509_certificates(answer.json["certificate"].encode())
    leaf.verify_directly_issued_by(authority)
    assert leaf.public_key() == KEY.public_key()
    assert leaf.subject.rfc4514_string() == "CN=acme"
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [name.value for name in names] == ["dnsvip:acme?generation=0"]
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    (shown,) = (await api.ok("GET", "client-ca"))["items"]
    assert shown["certificate"] == authority.public_bytes(Encoding.PEM).decode()
    assert "PRIVATE" not in str(shown)


async def test_who_gets_no_certificate(api: Api) -> None:
    """A client that no certificate would identify, one that is not enabled, and a request that is none."""
    answer = await api("POST", "clients/acme/certificate", {"csr": request()})
    assert (answer.status, "give it the match" in answer.text) == (422, True)
    await known_by_certificate(api)
    flawed = request().replace("M", "N", 1)
    der = x509.load_pem_x509_csr(request().encode()).public_bytes(Encoding.DER)
    text = base64.encodebytes(der.replace(b"\2\1\0", b"\2\1\7", 1)).decode()  # of a version that there is not
    unheard = f"-----BEGIN CERTIFICATE REQUEST-----\n{text}-----END CERTIFICATE REQUEST-----\n"
    for csr in ("", "no request", flawed, unheard, request(key=rsa.generate_private_key(65537, 2048)), "x" * 9000):
        assert (await api("POST", "clients/acme/certificate", {"csr": csr})).status == 422, csr
    der = x509.load_pem_x509_csr(request(key=rsa.generate_private_key(65537, 2048)).encode()).public_bytes(Encoding.DER)
    text = base64.encodebytes(der[:-1] + bytes([der[-1] ^ 1])).decode()  # its key is not used at all
    unsigned = f"-----BEGIN CERTIFICATE REQUEST-----\n{text}-----END CERTIFICATE REQUEST-----\n"
    assert "must be a request" in (await api("POST", "clients/acme/certificate", {"csr": unsigned})).text
    for days in (0, 91):
        assert (await api("POST", "clients/acme/certificate", {"csr": request(), "days": days})).status == 422
    assert (await api("POST", "clients/nobody/certificate", {"csr": request()})).status == 404
    await api.ok("PATCH", "clients/acme", {"state": "disabled"})
    assert (await api("POST", "clients/acme/certificate", {"csr": request()})).status == 422


@pytest.mark.parametrize("kinds", [["client"], ["dns_token", "tsig"], ["client_ca"]])
async def test_a_certificate_takes_the_right_to_enrol(api: Api, kinds: list[str]) -> None:
    """Neither who may write clients nor who may replace the authority issues certificates."""
    await known_by_certificate(api)
    scope = {"actions": ["read", "write", "rotate"], "kinds": kinds}
    made = await api.ok("POST", "tokens", {"name": "other", "scopes": [scope]})
    answer = await replace(api, token=made["token"])("POST", "clients/acme/certificate", {"csr": request()})
    assert answer.status == 403


async def test_who_may_name_certificates(api: Api) -> None:
    """Who may write some clients has them known by their own names in certificates, and by names that fit its
    patterns: by a fingerprint or another name it would take the certificates of a client that is not its own."""
    scope = {"actions": ["read", "write"], "kinds": ["client"], "clients": ["news*"]}
    made = await api.ok("POST", "tokens", {"name": "narrow", "scopes": [scope]})
    narrow, match = replace(api, token=made["token"]), (await api.ok("GET", "clients/newsreader"))["match"]
    for name in ("acme", "sha256:" + "0" * 64, "ops@acme.test", "dnsvip:acme?generation=0"):
        answer = await narrow("PATCH", "clients/newsreader", {"match": [*match, {"tls": name}]})
        assert (answer.status, "lacks the scope write:client" in answer.text) == (403, True), name
    for name in ("newsreader", "news-laptop"):
        await narrow.ok("PATCH", "clients/newsreader", {"match": [*match, {"tls": name}]})
    await api.ok("PATCH", "clients/newsreader", {"match": [*match, {"tls": "ops@acme.test"}]})
    await narrow.ok("PATCH", "clients/newsreader", {"attributes": {}})


async def test_an_enrolment_with_a_new_token(api: Api) -> None:
    """It comes where it is asked for and identifies the client; a second one gives it a new text beside the old one."""
    await api.store.keys.rotate("web", "me", 1000.0)
    api.snapshots.append(await api.store.snapshots.load())
    body = {"servers": ["192.0.2.53:53"], "new_token": True}
    first = await api.ok("POST", "clients/acme/enrolment", body)
    assert {"token": "acme"} in (await api.ok("GET", "clients/acme"))["match"]
    api.snapshots.append(await api.store.snapshots.load())
    second = await api.ok("POST", "clients/acme/enrolment", body)
    assert second["token"] != first["token"]
    assert (await api.ok("GET", "dns-tokens/acme"))["previous_until"] is not None
    plain = await api.ok("POST", "clients/acme/enrolment", {"servers": ["192.0.2.53:53"]})
    assert plain.get("token") is None


async def test_the_audit_tells_who_enrolled(api: Api) -> None:
    """An enrolment and a certificate each leave a row: whose, by whom and from where, and nothing that is secret."""
    await known_by_certificate(api)
    api.snapshots.append(await api.store.snapshots.load())
    await api.ok("POST", "clients/acme/enrolment", {"servers": ["192.0.2.53:53"]})
    issued = (await api("POST", "clients/acme/certificate", {"csr": request(), "days": 7})).json
    second, first = (await api.ok("GET", "audit?kind=enrolment"))["items"]
    for row in (first, second):
        assert (row["action"], row["name"], row["actor"], row["source"]) == ("+", "acme", "token test", "127.0.0.1")
    assert first["after"] == {"key_generation": 0, "servers": ["192.0.2.53:53"], "token": False}
    leaf = x509.load_pem_x509_certificate(issued["certificate"].encode())
    certificate = {"not_after": issued["not_after"], "sha256": leaf.fingerprint(SHA256()).hex()}
    assert second["after"] == {"key_generation": 0, "certificate": certificate}
