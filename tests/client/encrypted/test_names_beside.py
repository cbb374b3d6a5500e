"""Names beside the services, which public DNS may have, where the enrolment's encrypted servers are silent."""

from __future__ import annotations

import dns.message
import dns.rcode
import pytest

from dnsvip.client import Agent
from dnsvip.client.io import agent as agent_module
from dnsvip.client.io.stub import Stub
from dnsvip.errors import ClientError
from tests.client.encrypted.authority import Authority, KeyPair
from tests.client.encrypted.servers import Dot
from tests.client.encrypted.test_channels import enrolled
from tests.client.responder import Responder, reply
from tests.ports import free_port

BESIDE = "beside.example.test"


def public(asked: dns.message.Message, _transport: str) -> list[bytes]:
    return [reply(asked, f"{BESIDE}. 60 IN AAAA 2001:db8:99::1", signed=False).to_wire()]


def refusing(asked: dns.message.Message, _transport: str) -> list[bytes]:
    return [reply(asked, rcode=dns.rcode.REFUSED).to_wire()]


def failing(asked: dns.message.Message, _transport: str) -> list[bytes]:
    return [reply(asked, rcode=dns.rcode.SERVFAIL).to_wire()]


async def asked_by(stub: Stub) -> int:
    answer = await stub.answer(dns.message.make_query(BESIDE, "AAAA").to_wire(), "tcp")
    assert answer is not None
    return int(dns.message.from_wire(answer).rcode())


@pytest.mark.parametrize(
    ("encrypted", "allowed", "answered"),
    [
        ("silent", False, False),
        ("silent", True, True),
        ("refuses", False, True),
        ("fails", False, False),
        ("fails", True, True),
    ],
)
async def test_the_stub(encrypted: str, allowed: bool, answered: bool, authority: Authority, files: KeyPair) -> None:
    """They are asked of an upstream in plain text once a server has said that it has none, and not where somebody may
    keep it silent or have it fail, unless the enrolment allows that."""
    answers = failing if encrypted == "fails" else refusing
    async with Responder(public) as upstream, Dot(answers, files) as server:
        place = server.server() if encrypted != "silent" else f"tls://127.0.0.1:{free_port()}#dns.example.test"
        agent = Agent(enrolled(authority, place, plaintext_fallback=allowed), timeout=1)
        async with Stub(agent, "127.0.0.1:0", [upstream.endpoint]) as stub:
            assert await asked_by(stub) == (dns.rcode.NOERROR if answered else dns.rcode.SERVFAIL)
        assert bool(upstream.asked) is answered
        agent.close()


async def test_an_encrypted_upstream(authority: Authority, files: KeyPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upstream that is encrypted is asked all the same."""
    async with Responder(public) as plain, Dot(public, files) as upstream:
        silent = f"tls://127.0.0.1:{free_port()}#dns.example.test"
        agent = Agent(enrolled(authority, silent), timeout=1)
        stub = Stub(agent, "127.0.0.1:0", [plain.endpoint, upstream.server()])
        monkeypatch.setattr(stub, "_channels", agent._naming._own_channels)  # which trusts the authority
        async with stub:
            assert await asked_by(stub) == dns.rcode.NOERROR
        assert (len(plain.asked), len(upstream.seen.asked)) == (0, 1)


async def test_a_program(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's resolver is not asked either."""
    system: list[str] = []

    async def addresses(name: str, _port: int) -> list[object]:
        system.append(name)
        return [(0, 0, 0, "", ("2001:db8:99::1", 0))]

    monkeypatch.setattr(agent_module, "system_addresses", addresses)
    silent = f"tls://127.0.0.1:{free_port()}#dns.example.test"
    agent = Agent(enrolled(authority, silent), timeout=1)
    with pytest.raises(ClientError, match="no DNS server answered"):
        await agent.resolve(BESIDE)
    assert not system
    await Agent(enrolled(authority, silent, plaintext_fallback=True), timeout=1).resolve(BESIDE)
    assert system == [BESIDE]
