"""The API described by itself: an OpenAPI 3.1 document made from the operations that are served and their models.

Nothing is described twice: paths, queries, rights and statuses come from the operations, forms from the types that
read and write them, words from docstrings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass

from aiohttp import web

from dnsvip import __version__
from dnsvip.admin.http import bodies
from dnsvip.admin.http.links import links, operation_id, parts
from dnsvip.admin.http.operation import ROOT, Operation, operations
from dnsvip.admin.http.problems import MEDIA_TYPE, PROBLEMS
from dnsvip.admin.http.ready_made import OncePerApplication, ready_made
from dnsvip.admin.http.schemas import REF, Schemas
from dnsvip.admin.http.words import complete
from dnsvip.site.plain import JsonObject
from dnsvip.site.registry import KINDS, Kind
from dnsvip.site.rights import wanted

PATH = "/api/v1/openapi.json"

TITLE = "dnsvip"
ABOUT = (
    "DNS that gives every client its own encoded address, and the dispatcher that reads it. Every change is one "
    "transaction that raises the generation; errors are application/problem+json (RFC 9457)."
)

ALWAYS = (400, 401, 403, 404, 405, 429, 500, 503)
WITH_BODY = (409, 412, 413, 415, 422)
"""Statuses of problems that every operation, and every one that changes something, may answer."""

HEADERS: Mapping[str, JsonObject] = {
    "Dnsvip-Generation": {"description": "From which generation on the change holds.", "schema": {"type": "string"}},
    "ETag": {"description": "The entity tag of this form of the object.", "schema": {"type": "string"}},
}

CONDITIONS = [
    {
        "name": name,
        "in": "header",
        "required": False,
        "description": f"Only where the object is (not) one of these forms: {name} of RFC 9110.",
        "schema": {"type": "string", "pattern": r'^(\*|"[!-~]{1,64}")$'},
    }
    for name in ("If-Match", "If-None-Match")
]


def document(served: Iterable[Operation]) -> JsonObject:
    """The OpenAPI document of these operations."""
    schemas, every = Schemas(), list(served)
    paths: JsonObject = {}
    for operation in every:
        paths.setdefault(operation.shown_path, {})[operation.method.lower()] = _operation(
            operation, schemas, links(operation, every)
        )
    complete(schemas.definitions)
    return {
        "openapi": "3.1.0",
        "info": {"title": TITLE, "version": __version__, "description": ABOUT, "license": {"name": "MIT"}},
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
            "schemas": {**schemas.definitions, "Problem": _problem()},
            "responses": {
                str(status): {
                    "description": title,
                    "content": {MEDIA_TYPE: {"schema": {"$ref": REF.format(model="Problem")}}},
                }
                for status, title in _titles().items()
            },
        },
        "x-kinds": [_described_kind(order, kind) for order, kind in enumerate(KINDS.values())],
    }


def _described_kind(order: int, kind: Kind) -> JsonObject:
    return {
        "kind": kind.name,
        "path": f"{ROOT}/{kind.plural}",
        "plural": kind.plural,
        "label": kind.label,
        "label_plural": kind.label_plural,
        "help": kind.help,
        "schemas": [model.__name__ for model in kind.classes],
        "named": kind.named,
        "order": order,
    }


def _operation(operation: Operation, schemas: Schemas, following: JsonObject) -> JsonObject:
    words = " ".join((operation.handle.__doc__ or "").split())
    shown: JsonObject = {
        "operationId": operation_id(operation),
        "summary": words.partition(". ")[0].rstrip(".") or operation_id(operation),
        "description": words,
        "tags": [operation.shown_path.split("/")[3] if operation.shown_path.count("/") > 2 else "api"],
        "parameters": [*_of_path(operation), *_of_query(operation, schemas)],
        "responses": _responses(operation, schemas, following),
    }
    if operation.open:
        shown["security"] = []
    elif operation.kind:
        shown["description"] += f" Needs the scope `{wanted(operation.action, operation.kind)}`."
    if operation.method in ("PUT", "PATCH", "DELETE") and isinstance(operation.answer, str) and operation.answer:
        shown["parameters"] += CONDITIONS
    if operation.body is not None:
        shown["requestBody"] = {
            "required": not isinstance(operation.body, dict),
            "content": _content(operation, schemas),
        }
    return shown


def _content(operation: Operation, schemas: Schemas) -> JsonObject:
    if isinstance(operation.body, dict):
        return {media: {"schema": schema} for media, schema in operation.body.items()}
    schema = schemas.of(operation.body, "validation")
    if operation.method == "PUT" and "required" in schema:  # the name is that of the path
        schema = {**schema, "required": [key for key in schema["required"] if key != "name"]}
    return {"application/json": {"schema": schema}}


def _of_path(operation: Operation) -> list[JsonObject]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1, "maxLength": 253}}
        for name in parts(operation)
    ]


def _of_query(operation: Operation, schemas: Schemas) -> list[JsonObject]:
    if operation.raw or not is_dataclass(operation.query):
        return []
    schema = schemas.of(operation.query, "validation")
    if "$ref" in schema:
        schema = schemas.definitions[schema["$ref"].rpartition("/")[2]]
    required = schema.get("required", [])
    return [
        {
            "name": each_field.name,
            "in": "query",
            "required": each_field.name in required,
            "schema": _plain_parameter(schema["properties"][each_field.name]),
        }
        for each_field in fields(operation.query)
    ]


def _plain_parameter(schema: JsonObject) -> JsonObject:
    """A query parameter is there or is not: it is never null."""
    some = [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]
    rest = {key: value for key, value in schema.items() if key not in ("anyOf", "default", "title")}
    if schema.get("default") is not None:
        rest["default"] = schema["default"]
    return {**rest, **some[0]} if len(some) == 1 else {**rest, **({"anyOf": some} if some else {})}


def _responses(operation: Operation, schemas: Schemas, following: JsonObject) -> JsonObject:
    good: JsonObject = {"description": "Done."}
    if operation.media is not None:
        good["content"] = {media: {"schema": schema} for media, schema in operation.media.items()}
    elif operation.status != web.HTTPNoContent.status_code:
        good["content"] = {"application/json": {"schema": schemas.of(operation.answer, "serialization")}}
    good["headers"] = dict(HEADERS)
    if following:
        good["links"] = following
    responses = {str(operation.status): good}
    if operation.method == "PUT":
        responses["201"] = {**good, "description": "Made."}
    if operation.method == "GET" and isinstance(operation.answer, str):
        responses["304"] = {"description": "It is still that form (If-None-Match)."}
    problems = [*ALWAYS, *(WITH_BODY if operation.method not in ("GET", "HEAD") else (422,))]
    return responses | {str(status): {"$ref": f"#/components/responses/{status}"} for status in sorted(problems)}


def _titles() -> dict[int, str]:
    titles: dict[int, str] = {}
    for status, title in PROBLEMS.values():
        titles[status] = f"{titles[status]}; {title}" if status in titles else title
    return titles


def _problem() -> JsonObject:
    return {
        "type": "object",
        "description": "What went wrong (RFC 9457); nothing of the request has been done.",
        "properties": {
            "type": {"type": "string", "format": "uri"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "errors": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"where": {"type": "string"}, "message": {"type": "string"}},
                    "required": ["where", "message"],
                },
            },
        },
        "required": ["type", "title", "status", "detail"],
    }


async def get(request: web.Request) -> web.Response:
    """This document: what the API can do, in the form of OpenAPI 3.1."""
    return (await _written.beside(request.app)).answer(request)


described = OncePerApplication(lambda app: document(operations(app)))
"""The document of an application. Making one takes a tenth of a second, in the process that answers DNS."""

_written = OncePerApplication(lambda app: ready_made(bodies.written(described(app)), "application/json"))


ROUTES = [Operation("GET", PATH, get, open=True)]
