"""Fixtures shared by the client's tests: a self-signed certificate and a web server that echoes the request."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.client.webserver import Web


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with cert.pem and key.pem for www.example.test."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", "/CN=www.example.test", "-addext", "subjectAltName=DNS:www.example.test"),
            *("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")),
        ],
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture
async def web(certificate: Path) -> Web:
    """HTTP and HTTPS on ::1."""
    return await Web.start(certificate, "::1")
