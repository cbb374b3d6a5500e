"""Print the OpenAPI document of the API: the types of the console's scripts are made from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dnsvip.admin.app import make_app
from dnsvip.admin.http.openapi import described
from dnsvip.admin.node import Node


def unserved() -> Any:
    """What a node holds that serves nothing."""
    raise NotImplementedError


if __name__ == "__main__":
    node = Node(store=unserved, snapshot=unserved, dns=dict, dispatcher=Path())
    print(json.dumps(described(make_app(node)), indent=1))  # noqa: T201 - a program
