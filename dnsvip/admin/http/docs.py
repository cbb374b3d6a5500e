"""/api/docs: the OpenAPI document as a page to browse. It needs no script and nothing from elsewhere."""

from __future__ import annotations

import json
from html import escape
from importlib import resources
from typing import Any

from aiohttp import web

from dnsvip.admin.http.openapi import PATH, described
from dnsvip.admin.http.operation import Operation
from dnsvip.admin.http.ready_made import OncePerApplication, ready_made
from dnsvip.site.plain import JsonObject

POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
HTML = {"text/html": {"schema": {"type": "string"}}}
DEEPEST = 4
"""How deep a form is spelt out; beyond it stands its name."""


async def page(request: web.Request) -> web.Response:
    """What the API can do, as a page to browse."""
    headers = {"Content-Security-Policy": POLICY, "X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff"}
    return (await _rendered.beside(request.app)).answer(request, headers)


async def style(request: web.Request) -> web.Response:
    """The page's style."""
    return _style(request.app).answer(request, {"X-Content-Type-Options": "nosniff"})


def render(document: JsonObject) -> str:
    """The page of an OpenAPI document."""
    info, groups = document["info"], _groups(document)
    index = "".join(f'<li><a href="#{escape(tag)}">{escape(tag)}</a></li>' for tag in groups)
    body = "".join(
        f'<section id="{escape(tag)}"><h2>{escape(tag)}</h2>{"".join(sections)}</section>'
        for tag, sections in groups.items()
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(info['title'])} API</title>"
        '<link rel="stylesheet" href="/api/docs.css"></head><body>'
        f"<header><h1>{escape(info['title'])} API <small>{escape(info['version'])}</small></h1>"
        f'<p>{escape(info["description"])}</p><p><a href="{PATH}">openapi.json</a></p></header>'
        f"<nav><ul>{index}</ul></nav><main>{body}</main></body></html>"
    )


def _groups(document: JsonObject) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            shown = _operation(document, method, path, operation)
            groups.setdefault(operation["tags"][0], []).append(shown)
    return groups


def _operation(document: JsonObject, method: str, path: str, operation: JsonObject) -> str:
    body = ""
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        body += f"<h4>Body, {escape(media)}</h4>{_form(document, content['schema'])}"
    for status, answer in operation["responses"].items():
        for media, content in answer.get("content", {}).items():
            body += f"<h4>Answer {status}, {escape(media)}</h4>{_form(document, content['schema'])}"
    problems = ", ".join(status for status in operation["responses"] if status >= "400")
    return (
        f'<details id="{escape(operation["operationId"])}"><summary><b class="{method}">{method.upper()}</b> '
        f"<code>{escape(path)}</code> {escape(operation['summary'])}</summary>"
        f"<p>{_ticked(operation['description'])}</p>{_parameters(document, operation['parameters'])}{body}"
        f"<p>Problems: {problems}</p></details>"
    )


def _parameters(document: JsonObject, parameters: list[JsonObject]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(parameter['name'])}</code></td><td>{parameter['in']}</td>"
        f"<td>{'needed' if parameter['required'] else ''}</td>"
        f"<td>{escape(json.dumps(_plain(document, parameter['schema'], 1), ensure_ascii=False))}</td></tr>"
        for parameter in parameters
    )
    return f"<table><tr><th>parameter</th><th>in</th><th></th><th>form</th></tr>{rows}</table>" if rows else ""


def _form(document: JsonObject, schema: JsonObject) -> str:
    text = json.dumps(_plain(document, schema, DEEPEST), indent=2, ensure_ascii=False)
    return f"<pre>{escape(text)}</pre>"


def _plain(document: JsonObject, schema: Any, depth: int) -> Any:
    """A schema in short: what stands where, references followed."""
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _plain(document, document["components"]["schemas"][name], depth) if depth else name
    if "properties" in schema and depth:
        return {key: _plain(document, value, depth - 1) for key, value in schema["properties"].items()}
    if schema.get("type") == "array" and depth:
        return [_plain(document, schema.get("items", {}), depth - 1)]
    if "anyOf" in schema and depth:
        return {"any of": [_plain(document, option, depth) for option in schema["anyOf"]]}
    left = ("title", "description", "$defs", "examples", "x-ui")
    short = {key: value for key, value in schema.items() if key not in left}
    return short["type"] if list(short) == ["type"] else short


def _ticked(text: str) -> str:
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if at % 2 else part for at, part in enumerate(parts))


_rendered = OncePerApplication(lambda app: ready_made(render(described(app)), "text/html"))
_style = OncePerApplication(
    lambda _app: ready_made(resources.files("dnsvip.admin.http").joinpath("docs.css").read_text(), "text/css")
)

ROUTES = [
    Operation("GET", "/api/docs", page, open=True, media=HTML),
    Operation("GET", "/api/docs.css", style, open=True, media={"text/css": {"schema": {"type": "string"}}}),
]
