"""Packets that a peer leaves unacknowledged: what is kept of them, and what each ACK frame costs, is bounded."""

from __future__ import annotations

import pytest
from aioquic import tls

from dnsvip.dns.io.framing import frame
from dnsvip.dns.io.quic import connection
from dnsvip.dns.io.quic.doq import DoqError
from tests.dns.io.quic.peers import Bare
from tests.dns.io.quic.test_doq import question
from tests.dns.io.quic.test_hostile import answers, code, own
from tests.dns.world import Running

__all__ = ["own"]

PINGS = 40


@pytest.mark.parametrize("acknowledges", [False, True])
async def test_a_peer_that_pings(own: Running, monkeypatch: pytest.MonkeyPatch, acknowledges: bool) -> None:
    """Who has its packets acknowledged, and acknowledges nothing, is ended before we keep many of ours: an hour of it
    took gigabytes, and minutes had one datagram of ACK frames keep all others waiting for tenths of a second. Who
    acknowledges an answer now and then goes on."""
    monkeypatch.setattr(connection, "MOST_UNACKNOWLEDGED", PINGS // 2)
    client = Bare(own.port)
    client.exchange(3)
    space = client.quic._spaces[tls.Epoch.ONE_RTT]
    for number in range(PINGS):
        if number % 8:
            client.quic.send_ping(number)
        else:
            client.quic.send_stream_data(client.quic.get_next_available_stream_id(), frame(question()), True)
        if not acknowledges:
            space.ack_at = None
        client.send(*client.due())
        client.read(*client.take(0.03))  # longer than we wait with an acknowledgement
        if code(client) is not None:
            break
    assert code(client) == (None if acknowledges else DoqError.EXCESSIVE_LOAD)
    kept = [each.quic.unacknowledged for each in own.server.listeners.quic.connections]
    assert max(kept, default=0) <= PINGS // 2 + 2
    await answers(own)
