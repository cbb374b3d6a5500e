"""What schemathesis is told before it walks along the links: bodies that can be stored, so that there is something to
look at, change and remove. It runs in a process of its own, which loads this file as its hooks."""

from __future__ import annotations

from typing import Any

import schemathesis

BODIES: dict[str, dict[str, Any]] = {
    "/api/v1/tiers/{name}": {"code": 9, "pool": "slow"},
    "/api/v1/pools/{name}": {"servers": [{"name": "one", "address": "fd00:10::99"}]},
    "/api/v1/pools/{name}/servers/{server}": {"address": "fd00:10::98"},
    "/api/v1/clients/{name}": {"id": 999, "tier": "gold"},
    "/api/v1/tsig/{name}": {"secret": "c2VjcmV0LXNlY3JldC1zZWNyZXQ="},
    "/api/v1/services/{name}": {"cluster": "web"},
}
NAMES = {"/api/v1/services/{name}": "made.example.test"}


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """All paths of a kind are about the same object."""
    if not path_parameters:
        return path_parameters
    return dict.fromkeys(path_parameters, NAMES.get(context.operation.path, "made"))


@schemathesis.hook
def map_headers(context: Any, headers: dict[str, Any] | None) -> dict[str, Any] | None:
    """No conditions by chance: none of them would hold."""
    return {key: value for key, value in (headers or {}).items() if key not in ("If-Match", "If-None-Match")}


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """What is put can be stored."""
    return BODIES.get(context.operation.path, body) if context.operation.method.upper() == "PUT" else body
