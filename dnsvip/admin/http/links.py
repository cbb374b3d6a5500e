"""Links of the OpenAPI document: from the creation of an object to its other operations.

Readers of the document see by them what belongs together; tests walk along them: make, look, change, remove.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from dnsvip.admin.http.operation import Operation
from dnsvip.site.plain import JsonObject


def operation_id(each: Operation) -> str:
    """A unique name of an operation."""
    path = re.sub(r"[^a-z0-9]+", "_", each.shown_path.removeprefix("/api/v1/").lower()).strip("_")
    return f"{each.method.lower()}_{path}"


def links(each: Operation, served: Iterable[Operation]) -> JsonObject:
    """The links of a successful response: after a PUT, the other operations of its path."""
    if each.method != "PUT":
        return {}
    names = {name: f"$request.path.{name}" for name in parts(each)}
    others = (other for other in served if other.shown_path == each.shown_path and other is not each)
    return {operation_id(other): {"operationId": operation_id(other), "parameters": names} for other in others}


def parts(each: Operation) -> list[str]:
    """The names of the parts of an operation's path that a caller fills in."""
    return re.findall(r"{(\w+)}", each.shown_path)
