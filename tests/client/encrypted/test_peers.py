"""The agent and the stub at BIND and dnsdist, over TLS and HTTPS."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace

import dns.asyncquery
import dns.flags
import dns.message
import pytest

from dnsvip.client import Agent
from dnsvip.client.enrolment import ServerTrust
from dnsvip.client.io import stub as stub_module
from dnsvip.client.io.encrypted.channels import Channels
from dnsvip.client.io.encrypted.credentials import Credentials
from dnsvip.client.io.stub import Stub
from tests.client.encrypted.authority import NAME as SERVER_NAME
from tests.client.encrypted.authority import Authority, KeyPair
from tests.client.responder import KEY_NAME, SECRET
from tests.client.test_agent import ISSUED, NAME, SOURCE, enrolment
from tests.dns.differential.peers import Bind
from tests.ports import free_port

ZONE = f"""$ORIGIN example.test.
$TTL 60
@ SOA ns hostmaster 1 3600 600 86400 60
@ NS ns
ns A 192.0.2.1
www AAAA {ISSUED}
long TXT {" ".join([chr(34) + "x" * 255 + chr(34)] * 16)}
"""


class EncryptedBind(Bind):
    """BIND with a port for TLS and one for HTTPS."""

    certificate: KeyPair

    def configuration(self) -> str:
        self.tls, self.https = free_port(), free_port()
        own = f'tls own {{ cert-file "{self.certificate[0]}"; key-file "{self.certificate[1]}"; }};\n'
        key = f'key "{KEY_NAME}" {{ algorithm hmac-sha256; secret "{SECRET}"; }};\n'
        listen = (
            f"listen-on port {self.tls} tls own {{ 127.0.0.1; }}; listen-on port {self.https} tls own http default"
            f" {{ 127.0.0.1; }}; listen-on port {self.port}"
        )
        return own + key + super().configuration().replace(f"listen-on port {self.port}", listen)


@pytest.fixture(scope="module")
def bind(tmp_path_factory: pytest.TempPathFactory, files: KeyPair) -> Iterator[EncryptedBind]:
    kind = type("Of", (EncryptedBind,), {"certificate": files})
    with kind(tmp_path_factory.mktemp("bind") / "bind", {"example.test": ZONE}) as peer:
        yield peer


@pytest.fixture(scope="module")
def dnsdist(bind: EncryptedBind, files: KeyPair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """Ports for TLS and HTTPS of a dnsdist before BIND."""
    folder, tls, https = tmp_path_factory.mktemp("dnsdist"), free_port(), free_port()
    (folder / "conf").write_text(
        f'setLocal("127.0.0.1:{free_port()}")\nnewServer({{address="127.0.0.1:{bind.port}", tcpOnly=true}})\n'
        f'addTLSLocal("127.0.0.1:{tls}", "{files[0]}", "{files[1]}")\n'
        f'addDOHLocal("127.0.0.1:{https}", "{files[0]}", "{files[1]}", "/dns-query")\n'
    )
    log = (folder / "log").open("w")
    process = subprocess.Popen(["dnsdist", "--supervised", "-C", str(folder / "conf")], stdout=log, stderr=log)
    until = time.monotonic() + 10
    while (folder / "log").read_text().count("Listening on") < 3:
        assert time.monotonic() < until, (folder / "log").read_text()
        time.sleep(0.05)
    yield tls, https
    process.terminate()
    process.wait(10)


def urls(tls: int, https: int) -> list[str]:
    return [f"tls://127.0.0.1:{tls}#{SERVER_NAME}", f"https://127.0.0.1:{https}/dns-query#{SERVER_NAME}"]


@pytest.mark.parametrize("way", [0, 1], ids=["tls", "https"])
@pytest.mark.parametrize("peer", ["bind", "dnsdist"])
async def test_signed_answers(peer: str, way: int, authority: Authority, request: pytest.FixtureRequest) -> None:
    """A signed query is answered and the signature verifies, though its id is 0 on the way over HTTPS."""
    ports = request.getfixturevalue(peer)
    tls, https = (ports.tls, ports.https) if peer == "bind" else ports
    agent = Agent(replace(enrolment(urls(tls, https)[way]), trust=ServerTrust(authority.ca)))
    resolved = await agent.resolve(NAME, source=SOURCE)
    agent.close()
    assert (resolved.issued, resolved.proven) == (ISSUED, True)


@pytest.mark.parametrize("way", [0, 1], ids=["tls", "https"])
async def test_stub(way: int, bind: EncryptedBind, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stub asks encrypted servers of the enrolment and an encrypted upstream; long answers come whole over TCP and
    truncated over UDP."""
    trusted = Channels(Credentials(ServerTrust(authority.ca)))
    monkeypatch.setattr(stub_module, "Channels", lambda: trusted)
    server = urls(bind.tls, bind.https)[way]
    agent = Agent(replace(enrolment(server), trust=ServerTrust(authority.ca), zones=()))
    async with Stub(agent, "127.0.0.1:0", [server]) as stub:
        port = int(stub.endpoint.rpartition(":")[2])

        async def asked(name: str, rdtype: str, *, tcp: bool = False) -> dns.message.Message:
            way = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
            query = dns.message.make_query(name, rdtype, use_edns=0, payload=1232)
            return await way(query, "127.0.0.1", 5, port)

        own, other, cut, whole = await asyncio.gather(
            asked(NAME, "AAAA"),
            asked("ns.example.test", "A"),
            asked("long.example.test", "TXT"),
            asked("long.example.test", "TXT", tcp=True),
        )
    agent.close()
    assert own.answer[0][0].address != str(ISSUED)
    assert other.answer[0][0].address == "192.0.2.1"
    assert cut.flags & dns.flags.TC
    assert len(whole.answer[0][0].strings) == 16
