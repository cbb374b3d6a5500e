"""Who guesses tokens over TLS: refused at the handshake, then unseen; clients in other networks are answered."""

from __future__ import annotations

import hashlib
import ssl
from contextlib import suppress
from pathlib import Path

from dnsvip.dns.io.framing import frame
from dnsvip.dns.protection.guesses import GUESSES
from dnsvip.site.io.files import zone_files
from dnsvip.site.site_file import build_site
from tests.dns.io.test_transport import question, receive
from tests.dns.io.tls_world import NAME, Authority, connected, listener
from tests.dns.world import ZONES, Running, site_tables
from tests.samples import snapshot_of

TOKEN, UNUSED = "dv" + "a2" * 13, "dv" + "b2" * 13
GUESSER, NEIGHBOUR, ELSEWHERE = "127.0.0.1", "127.0.0.77", "127.0.9.1"


def answered(server: Running, authority: Authority, token: str, source: str) -> bool:
    """Whether a question with a token in the server's name is answered."""
    with (
        suppress(ssl.SSLError, ConnectionError),
        connected(server.port, authority.context(), f"{token}.{NAME}", source) as tls,
    ):
        tls.sendall(frame(question()))
        return bool(receive(tls))
    return False


def test_guesses(tmp_path: Path) -> None:
    """Wrong tokens end handshakes with an alert; after too many different ones that network gets no token taken that
    was not used there before, not a right one either, while one from elsewhere is, and nothing grows."""
    authority = Authority(tmp_path)
    authority.server()
    site = site_tables()
    digests = {text: hashlib.sha256(text.encode()).hexdigest() for text in (TOKEN, UNUSED)}
    site["dns_token"] = {"van": {"digest": digests[TOKEN]}, "bike": {"digest": digests[UNUSED]}}
    files = authority.files(names=(NAME,))
    with Running(snapshot_of(build_site(site, zone_files(ZONES))), (listener(files),)) as server:
        assert answered(server, authority, TOKEN, NEIGHBOUR)
        for number in range(GUESSES + 4):
            assert not answered(
                server, authority, f"dv{'b' * 24}{number:02}".replace("0", "c").replace("1", "d"), GUESSER
            )
        assert not answered(server, authority, UNUSED, NEIGHBOUR)
        assert answered(server, authority, TOKEN, NEIGHBOUR)
        assert answered(server, authority, UNUSED, ELSEWHERE)
        check = server.server.engine.tokens
        assert check.refusals >= 1
        assert check.failures == server.counters()["transport"]["tls_token_refused"]
        assert set(check.uses) == set(digests.values())
