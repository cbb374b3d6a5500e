"""The API's listeners: TLS with a certificate that is renewed at run time, a Unix socket, and plain HTTP."""

from __future__ import annotations

import socket
import ssl
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dnsvip.node.api_listener import Certificate
from dnsvip.site.node_admin import TlsFiles
from tests.node.serving import NODE, Node, node, within

TLS = 'listen = "127.0.0.1:{api}"\ntls = {{ certificate = "api.pem", key = "api.key" }}'


def certify(folder: Path) -> int:
    """Write a new self-signed certificate for 127.0.0.1 and its key; return its serial number."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "dnsvip test")])
    now, serial = datetime.now(UTC), x509.random_serial_number()
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), serial, now - timedelta(1), now + timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    (folder / "api.key").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    (folder / "api.pem").write_bytes(certificate.public_bytes(pem))
    return serial


def shown(served: Node) -> int:
    """The serial number of the certificate that the API presents."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", served.api), 5) as plain, context.wrap_socket(plain) as wrapped:
        return x509.load_der_x509_certificate(wrapped.getpeercert(binary_form=True) or b"").serial_number


def test_tls(tmp_path: Path) -> None:
    """--ca makes the client trust the API; a renewed certificate is served without a restart, a broken one never."""
    with node(tmp_path) as served:
        first = certify(tmp_path)
        served.write_node(NODE.replace('listen = "127.0.0.1:{api}"', TLS))
        served.apply()
        served.start("--token-file", "token")
        where = ["--api", f"https://127.0.0.1:{served.api}", "--token-file", "token"]
        done = served.dnsvip("tiers", "list", *where, "--ca", "api.pem")
        assert done.returncode == 0, done.stderr
        assert "gold" in done.stdout
        unknown = served.dnsvip("tiers", "list", *where)
        assert (unknown.returncode, "self-signed certificate" in unknown.stderr) == (1, True), unknown.stderr
        assert shown(served) == first
        (tmp_path / "api.key").write_text("nonsense")
        within(20, lambda: "cannot be used, keeping the previous one" in served.log)
        assert shown(served) == first
        second = certify(tmp_path)
        within(20, lambda: shown(served) == second)
        assert served.dnsvip("tiers", "list", *where, "--ca", "api.pem").returncode == 0


def test_files_that_change_between_two_reads(tmp_path: Path) -> None:
    """A certificate whose key is not there yet leaves the pair in use: it is replaced as a whole, never changed."""
    first, files = certify(tmp_path), TlsFiles(tmp_path / "api.pem", tmp_path / "api.key")
    certificate = Certificate(files)
    before, key = certificate.context, files.key.read_bytes()
    second = certify(tmp_path)
    files.key.write_bytes(key)
    certificate.reload_if_changed()
    assert first != second
    assert certificate.context is before
    certify(tmp_path)
    certificate.reload_if_changed()
    assert certificate.context is not before


def test_a_wrong_certificate(tmp_path: Path) -> None:
    """A node whose certificate cannot be read does not start and names the file."""
    with node(tmp_path) as served:
        served.write_node(NODE.replace('listen = "127.0.0.1:{api}"', TLS))
        served.apply()
        done = served.dnsvip("serve", "node.toml")
        assert done.returncode == 3
        assert "admin.tls:" in done.stderr
        assert "api.pem" in done.stderr


def test_unix_socket(tmp_path: Path) -> None:
    """Only owner and group can use the Unix socket, the command line finds it, and it is removed on exit."""
    with node(tmp_path) as served:
        served.write_node(NODE.replace("127.0.0.1:{api}", "unix:api.sock"))
        served.apply()
        path = tmp_path / "api.sock"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        served.start("--token-file", "token")
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        done = served.dnsvip("tiers", "list", "--api", "unix:api.sock", "--token-file", "token")
        assert done.returncode == 0, done.stderr
        curl = ["curl", "-sS", "--unix-socket", str(path), "http://x/api/v1/whoami", "-H"]
        told = subprocess.run(
            [*curl, f"Authorization: Bearer {served.token}"], capture_output=True, check=True, text=True
        )
        assert '"token first"' in told.stdout
        second = served.dnsvip("serve", "node.toml")
        assert second.returncode == 3
        served.stop()
        assert not path.exists()
        path.write_text("mine")
        assert served.dnsvip("serve", "node.toml").returncode == 3
        assert path.read_text() == "mine"


def test_a_plain_listener_beyond_this_machine(tmp_path: Path) -> None:
    """A plain HTTP listener on a non-loopback address logs a warning."""
    with node(tmp_path) as served:
        served.write_node(NODE.replace("127.0.0.1:{api}", "0.0.0.0:{api}"))
        served.apply()
        served.start("--token-file", "token")
        assert "without TLS" in served.log


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ('listen = "unix:"', "must be unix:PATH"),
        ('listen = "127.0.0.1"', "must end in :PORT"),
        ('tls = {{ certificate = "a" }}', "admin.tls.key: missing"),
    ],
)
def test_wrong_settings(tmp_path: Path, given: str, message: str) -> None:
    """An invalid setting is refused and named by its key."""
    with node(tmp_path) as served:
        served.write_node(NODE.replace('listen = "127.0.0.1:{api}"', given))
        done = served.dnsvip("serve", "node.toml")
        assert (done.returncode, message in done.stderr) == (2, True), done.stderr
