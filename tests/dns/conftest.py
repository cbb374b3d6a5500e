"""One server for all tests of this folder that only ask it; an authority for the certificates of each file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.dns.io.tls_world import Authority
from tests.dns.world import Running, world_snapshot


@pytest.fixture(scope="session")
def server() -> Iterator[Running]:
    with Running(world_snapshot()) as running:
        yield running


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """With the certificate of a server."""
    authority = Authority(tmp_path_factory.mktemp("authority"))
    authority.server()
    return authority
