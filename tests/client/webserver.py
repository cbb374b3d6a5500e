"""A web server that echoes each request as JSON.

Run it as `python -m tests.client.webserver FOLDER HOST HTTP_PORT HTTPS_PORT`.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Web:
    """The ports of the server."""

    host: str
    http: int
    https: int
    servers: tuple[asyncio.Server, ...]

    @classmethod
    async def start(cls, folder: Path, host: str, http: int = 0, https: int = 0) -> Web:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        context.sni_callback = lambda tls, name, _: setattr(tls, "server_name_seen", name)
        plain = await asyncio.start_server(_serve, host, http, backlog=512)
        secure = await asyncio.start_server(_serve, host, https, ssl=context, backlog=512)
        ports = [server.sockets[0].getsockname()[1] for server in (plain, secure)]
        return cls(host, ports[0], ports[1], (plain, secure))


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except (EOFError, OSError):
            break
        start, *lines = head[:-4].split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(fields.get("content-length", "0")))
        tls = writer.get_extra_info("ssl_object")
        local, peer = writer.get_extra_info("sockname"), writer.get_extra_info("peername")
        seen = {
            "start": start,
            "fields": fields,
            "body": body.decode("latin-1"),
            "sni": getattr(tls, "server_name_seen", None),
            "to": local[0],
            "from": [peer[0], peer[1]],
        }
        text = json.dumps(seen).encode()
        close = "close" in fields.get("connection", "").lower()
        end = "close" if close else "keep-alive"
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\nConnection: {end}\r\n\r\n".encode() + text)
        await writer.drain()
        if close:
            break
    writer.close()


async def _main(folder: str, host: str, http: str, https: str) -> None:
    web = await Web.start(Path(folder), host, int(http), int(https))
    await asyncio.gather(*(server.serve_forever() for server in web.servers))


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
