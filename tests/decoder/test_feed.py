"""The feed of the decoder's keys beside a token file that is wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog
from aiohttp import web

from dnsvip.decoder.io import feed as feeding
from dnsvip.decoder.io.feed import Feed
from dnsvip.decoder.keys import DecodingKeys, to_json
from dnsvip.errors import ConfigError
from dnsvip.site.node_decoder import DecoderSettings

Keys = Mapping[str, DecodingKeys]
KEYS = DecodingKeys(
    {"name": "web", "prefix": "192.0.2.0/28", "plain": "192.0.2.1", "classes": {"gold": [8]}, "default_tier": "gold"},
    {"gold": 1},
)


def feed(folder: Path, token: str, api: str = "unix:nobody", taken: Callable[[Keys], None] = lambda _: None) -> Feed:
    """One with this token file."""
    (folder / "token").write_text(token)
    settings = DecoderSettings(("web",), api, folder / "token", poll_seconds=0.5)
    return Feed(settings, folder, taken)


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


@asynccontextmanager
async def answering(folder: Path, *answers: bytes) -> AsyncIterator[list[Keys]]:
    """What a feed takes from an API that gives these answers in turn, and the last one again, each in three pieces."""
    left, took = list(answers), list[Keys]()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        whole = left.pop(0) if len(left) > 1 else left[0]
        third = len(whole) // 3
        for piece in (whole[:third], whole[third : 2 * third], whole[2 * third :]):
            writer.write(piece)
            for _ in range(20):
                await asyncio.sleep(0)  # it has been read before the next one comes
        writer.close()

    server = await asyncio.start_unix_server(answer, folder / "api")
    one = feed(folder, "token", f"unix:{folder}/api", lambda keys: took.append(dict(keys)))
    running = asyncio.ensure_future(one.run())
    yield took
    running.cancel()
    server.close()


def response(status: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


async def test_an_answer_in_pieces(tmp_path: Path) -> None:
    """Keys that come in several segments are taken, and so is the refusal of a token that has been revoked."""
    document = json.dumps(to_json(KEYS)).encode().ljust(9000)
    async with answering(tmp_path, response("200 OK", document), response("401 Unauthorized", b" " * 9000)) as took:
        async with asyncio.timeout(20):
            while len(took) < 2:
                await asyncio.sleep(0.01)
    assert [set(keys) for keys in took] == [{"web"}, set()]


async def test_an_answer_without_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more is read than a document may have."""
    monkeypatch.setattr(feeding, "MOST_BYTES", 5000)
    document = json.dumps(to_json(KEYS)).encode()
    answers = [response("200 OK", document.ljust(size)) for size in (5001, 5000)]
    with structlog.testing.capture_logs() as logs:
        async with answering(tmp_path, *answers) as took, asyncio.timeout(20):
            while not took:
                await asyncio.sleep(0.01)
    assert "larger than 5000 bytes" in logs[0]["error"]
