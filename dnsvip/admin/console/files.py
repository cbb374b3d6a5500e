"""The console's files, read once at the start: no path of a request reaches the disk."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from aiohttp import web

from dnsvip.admin.http.auth import open_to_all

ROOT = "/console/"
TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class File:
    """One file of the console."""

    body: bytes
    content_type: str
    etag: str


def load(folder: Traversable, prefix: str = "") -> dict[str, File]:
    """All files below a folder by their path in it; index.html is also the folder itself."""
    files: dict[str, File] = {}
    for entry in folder.iterdir():
        path = prefix + entry.name
        if entry.is_dir():
            files |= load(entry, path + "/")
        elif (suffix := path[path.rfind(".") :]) in TYPES:
            body = entry.read_bytes()
            files[path] = File(body, TYPES[suffix], f'"{hashlib.sha256(body).hexdigest()[:32]}"')
    return files


def routes() -> list[web.RouteDef]:
    """The routes of the console's files, and the redirect to it from /."""
    held = load(files("dnsvip.admin.console") / "static")
    held[""] = held["index.html"]

    @open_to_all
    async def get(request: web.Request) -> web.Response:
        """One file; the browser revalidates it each time."""
        file = held.get(request.match_info["path"])
        if file is None:
            raise web.HTTPNotFound
        headers = {"ETag": file.etag, "Cache-Control": "no-cache"}
        if file.etag in request.headers.get("If-None-Match", ""):
            return web.Response(status=304, headers=headers)
        response = web.Response(body=file.body, content_type=file.content_type, charset="utf-8", headers=headers)
        response.enable_compression()
        return response

    @open_to_all
    async def to_console(_request: web.Request) -> web.Response:
        """Redirect the bare address to the console."""
        return web.Response(status=302, headers={"Location": ROOT})

    return [web.get(ROOT + "{path:.*}", get), web.get("/", to_console), web.get("/console", to_console)]
