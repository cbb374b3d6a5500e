"""Links of the OpenAPI document: from the creation of an object to its other operations.

Readers of the document see by them what belongs together; tests walk along them: make, look, change, remove.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from dnsvip.admin.http.operation import Operation
from dnsvip.site.plain import JsonObject


def operation_id(operation: Operation) -> str:
    """A unique name of an operation."""
    path = re.sub(r"[^a-z0-9]+", "_", operation.shown_path.removeprefix("/api/v1/").lower()).strip("_")
    return f"{operation.method.lower()}_{path}"


def links(operation: Operation, served: Iterable[Operation]) -> JsonObject:
    """The links of a successful response: after a PUT, the other operations of its path."""
    if operation.method != "PUT":
        return {}
    names = {name: f"$request.path.{name}" for name in parts(operation)}
    others = (other for other in served if other.shown_path == operation.shown_path and other is not operation)
    return {operation_id(other): {"operationId": operation_id(other), "parameters": names} for other in others}


def parts(operation: Operation) -> list[str]:
    """The names of the parts of an operation's path that a caller fills in."""
    return re.findall(r"{(\w+)}", operation.shown_path)
