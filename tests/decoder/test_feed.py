"""The feed of the decoder's keys beside a token file that is wrong."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from dnsvip.decoder.io.feed import Feed
from dnsvip.errors import ConfigError
from dnsvip.site.node_decoder import DecoderSettings


def feed(folder: Path, token: str, api: str = "unix:nobody") -> Feed:
    """One with this token file."""
    (folder / "token").write_text(token)
    settings = DecoderSettings(("web",), api, folder / "token", poll_seconds=0.5)
    return Feed(settings, folder, lambda _: None)


@pytest.mark.parametrize("token", ["", "\n", "one\ntwo", "one two", "t\x00ken", "tökèn"])
async def test_a_token_file_without_a_token(tmp_path: Path, token: str) -> None:
    """What is no token is not sent: it is named at the start, and later the feed goes on with the keys that it has."""
    one = feed(tmp_path, token)
    with pytest.raises(ConfigError, match=r"token_file: .*: holds no token: a single word is expected"):
        one.load()
    running = asyncio.ensure_future(one.run())
    await asyncio.sleep(0.1)
    assert not running.done()
    running.cancel()


async def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    """The token goes to the API of the settings and nowhere else."""
    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.path)
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "api")).start()
    running = asyncio.ensure_future(feed(tmp_path, "token", f"unix:{tmp_path}/api").run())
    while not seen:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    running.cancel()
    await runner.cleanup()
    assert set(seen) == {"/api/v1/clusters/web/decoding-keys"}
