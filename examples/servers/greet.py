"""Greets each client by its tier: `python greet.py ADDRESS PORT SOCKET`. The decoder at SOCKET reads the address that
the client has connected to."""

from __future__ import annotations

import asyncio
import sys

from aiohttp import web

from dnsvip.decoder import Decoder

WORDS = {"fr": "Bonjour", "en": "Hello"}
DECODER = web.AppKey("decoder", Decoder)


async def greet(request: web.Request) -> web.Response:
    """A greeting in the language of the client; without a decoder everybody is a stranger."""
    local = request.get_extra_info("sockname")[0]
    try:
        who = await request.app[DECODER].ask(local)
    except OSError:
        return web.Response(text="Hello, stranger\n")
    if not who.accepted:
        return web.Response(text=f"Hello, stranger ({who.verdict})\n")
    word = WORDS.get(str(who.attributes.get("lang")), "Hello")
    return web.Response(text=f"{word}, {who.tier} client {who.client or 'without a name'}\n")


async def main(address: str, port: str, path: str) -> None:
    """Serve until Ctrl-C."""
    app = web.Application()
    app[DECODER] = Decoder(path)
    app.router.add_get("/", greet)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, address, int(port)).start()
    await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
