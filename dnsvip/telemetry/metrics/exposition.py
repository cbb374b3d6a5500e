"""Families as the text that Prometheus reads, in the form that a scraper asks for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector


def render(families: Iterable[Metric], accept: str = "") -> tuple[bytes, str]:
    """Text and its content type; `accept` is the request's header."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once(families))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Once(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families
