"""DNS over TLS: what is answered, whom certificates identify, and what hostile peers get."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from dnsvip.dns.io.framing import frame
from dnsvip.site.node_dns import Listener
from tests.dns.io.test_transport import ids, question
from tests.dns.io.tls_world import NAME, Authority, connected, listener
from tests.dns.world import Running, world_snapshot


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    authority = Authority(tmp_path_factory.mktemp("tls"))
    authority.server()
    return authority


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[Running]:
    listen = listener(authority.files(clients=True)), Listener("127.0.0.1:0", "public")
    with Running(world_snapshot(), listen) as running:
        yield running


def test_pipelining(server: Running, authority: Authority) -> None:
    """Questions sent at once are answered in order, as over TCP; ALPN says dot."""
    with connected(server.port, authority.context()) as tls:
        assert tls.selected_alpn_protocol() == "dot"
        tls.sendall(b"".join(frame(question(id_=number)) for number in range(500)))
        assert ids(tls, 500) == list(range(500))


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_programs(server: Running, authority: Authority, version: str) -> None:
    """kdig verifies the name and gets an answer; openssl connects by both versions of TLS."""
    reply = server.kdig("+tls", f"+tls-ca={authority.file}", f"+tls-hostname={NAME}", "www.example.test", "AAAA")
    assert reply.status == "NOERROR"
    assert reply.answer
    where = f"127.0.0.1:{server.port}"
    done = subprocess.run(
        ["openssl", "s_client", "-connect", where, "-CAfile", authority.file, version, "-brief"],
        capture_output=True,
        text=True,
        input="",
        timeout=10,
        check=False,
    )
    assert "Verification: OK" in done.stderr
