"""Keeps the search for reference cycles away from a large site, while what changes in it stays searchable."""

from __future__ import annotations

import gc

from dnsvip.model import Snapshot

GROWTH = 1.25
LEAST = 10_000
"""A site is settled anew when it has so many times the clients it had, and at least so many more."""


class Settling:
    """Puts what a process holds out of the collector's sight, once and after each large growth of the site.

    A search of a million clients would keep questions and packets waiting for most of a second. Doing this
    after every change instead would hide each change's own cycles from the collector for good.
    """

    def __init__(self) -> None:
        self._clients = -LEAST

    def after(self, snapshot: Snapshot) -> None:
        """To be called when everything that is compiled from `snapshot` is in place."""
        clients = len(snapshot.site.clients)
        if clients >= self._clients * GROWTH and clients - self._clients >= LEAST:
            self._clients = clients
            gc.collect()
            gc.freeze()
