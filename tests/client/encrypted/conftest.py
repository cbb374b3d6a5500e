"""One authority, and a certificate for servers by it."""

from __future__ import annotations

import pytest

from dnsvip.client.io.encrypted import http_versions
from tests.client.encrypted.authority import NAME, Authority, KeyPair


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def files(authority: Authority) -> KeyPair:
    """For dns.example.test, names one label below it, and 127.0.0.1."""
    return authority.pair(NAME, f"*.{NAME}", "127.0.0.1")


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is not taken for one that HTTP/3 does not reach."""
    monkeypatch.setattr(http_versions, "HTTP3_SECONDS", 4.0)
