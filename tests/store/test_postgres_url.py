"""PostgreSQL URLs with a real server: verified TLS, a password file, several hosts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import pytest

from dnsvip.errors import StoreError
from dnsvip.store import KeyEncryptionKey, Store
from tests.ports import free_port
from tests.postgres import running

PASSWORD = "correct horse"


@dataclass(frozen=True)
class Secure:
    """A server that requires TLS and a password."""

    port: int
    database: str
    certificate: Path


@pytest.fixture(scope="module")
def secure() -> Iterator[Secure]:
    """A server on loopback with a certificate for localhost and a user `app`."""
    with running() as server:
        name = server.database().partition("@/")[2].partition("?")[0]
        server.sql(f"CREATE ROLE app SUPERUSER LOGIN PASSWORD '{PASSWORD}'")
        port = free_port()
        yield Secure(port, name, server.listen(port))


@pytest.fixture
def passfile(secure: Secure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password file in libpq's format."""
    file = tmp_path / "pass"
    file.write_text(f"localhost:{secure.port}:*:app:{PASSWORD}\n")
    file.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(file))


@pytest.mark.usefixtures("passfile")
async def test_verified_tls_and_password_file(secure: Secure, kek: KeyEncryptionKey) -> None:
    """With a trusted certificate and a password file, a URL without password works, notifications included.

    Of several hosts, the one that answers is used.
    """
    wanted = f"{secure.database}?sslmode=verify-full&sslrootcert={secure.certificate}"
    for hosts in (f"localhost:{secure.port}", f"localhost:1,localhost:{secure.port}"):
        store = await Store.open(f"postgresql://app@{hosts}/{wanted}", kek)
        await store.tokens.create(f"t{len(hosts)}", "me")
        async with aclosing(store.watch()) as generations:
            assert await anext(generations) >= 1
        await store.close()


@pytest.mark.usefixtures("passfile")
async def test_what_is_not_trusted_is_refused(secure: Secure, kek: KeyEncryptionKey) -> None:
    """An untrusted certificate, one for another name, no TLS, or a wrong password gives a clear error."""
    place = f"localhost:{secure.port}/{secure.database}"
    for url, said in (
        (f"postgresql://app@{place}?sslmode=verify-full&sslrootcert=/etc/ssl/certs/ca-certificates.crt", "CERTIFICATE"),
        (
            f"postgresql://app:x@127.0.0.1:{secure.port}/{secure.database}?sslmode=verify-full"
            f"&sslrootcert={secure.certificate}",
            "certificate",
        ),
        (f"postgresql://app@{place}?sslmode=disable", "no encryption"),
        (f"postgresql://app:hunter2@{place}?sslmode=require", "password authentication failed"),
    ):
        with pytest.raises(StoreError) as caught:
            await Store.open(url, kek)
        assert said.lower() in str(caught.value).lower()
        assert "hunter2" not in str(caught.value)
