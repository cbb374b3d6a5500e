"""A server with a `quic://` listener that all tests of this folder ask."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dnsvip.site.node_dns import DnsSettings
from dnsvip.site.node_listen import Listener, ListenerTls
from tests.dns.io.tls_world import NAME, Authority
from tests.dns.world import Running, world_snapshot


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    authority = Authority(tmp_path_factory.mktemp("authority"))
    authority.server()
    return authority


@pytest.fixture(scope="session")
def files(authority: Authority) -> ListenerTls:
    """A server's certificate, which asks for those of clients."""
    return authority.files(clients=True, names=(NAME,))


@pytest.fixture(scope="session")
def settings(files: ListenerTls) -> DnsSettings:
    return DnsSettings(listen=(Listener("quic://127.0.0.1:0", "quic"), Listener("127.0.0.1:0", "plain")), tls=files)


@pytest.fixture(scope="session")
def server(settings: DnsSettings) -> Iterator[Running]:
    with Running(world_snapshot(), settings=settings) as running:
        yield running
