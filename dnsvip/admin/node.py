"""What the API needs of the node that it runs in, as values and functions; no shell is named here."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from dnsvip.dns.engine import Engine
from dnsvip.dns.identity.identify import Geo
from dnsvip.site import Snapshot
from dnsvip.store import Store


@dataclass(frozen=True, slots=True)
class Node:
    """The node that serves the API.

    `store` gives the open store and raises StoreError while the database has not been reached. `snapshot`
    is what this node answers DNS from; `dns` its counters. A dispatcher of this machine tells its own at
    the Unix socket `dispatcher`. `now` gives unix seconds.
    `name` and `instance` are those that it reports by, so that it does not count itself twice.
    `listeners` are where it answers DNS over UDP and TCP, ADDRESS:PORT each.
    `engine` is the one that answers DNS in this process, None where other processes do; `geo` knows places for them.
    """

    store: Callable[[], Store]
    snapshot: Callable[[], Snapshot]
    dns: Callable[[], Mapping[str, Any]]
    dispatcher: Path
    now: Callable[[], float] = field(default=time.time)
    engine: Callable[[], Engine | None] = field(default=lambda: None)
    geo: Geo | None = None
    name: str = ""
    instance: str = ""
    listeners: Callable[[], Sequence[str]] = field(default=tuple)


NODE = web.AppKey("node", Node)
