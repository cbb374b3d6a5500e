"""TLS in memory over a plain socket, for clients that hold its records in their hands."""

from __future__ import annotations

import socket
import ssl


def shaken(
    sock: socket.socket, context: ssl.SSLContext, name: str
) -> tuple[ssl.SSLObject, ssl.MemoryBIO, ssl.MemoryBIO]:
    """A session with the server of that name whose handshake is complete, what it reads, and what it has to send."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=name)
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            sock.sendall(outgoing.read())
            incoming.write(sock.recv(1 << 16))
        else:
            return tls, incoming, outgoing
