"""The sampled query log of a DNS server, and its dnstap."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from dnsvip.dns.io.server import DnsServer
from dnsvip.dns.querylog import Sample
from dnsvip.dns.querylog import record as query_log_line
from dnsvip.node.reload import LiveConfig
from dnsvip.node.sampled_logs import configured
from dnsvip.site.node_log import DnstapSettings
from dnsvip.telemetry.sample_log import JsonLines, Render, SampleLog


@contextmanager
def query_logs(live: LiveConfig, server: DnsServer) -> Iterator[None]:
    """The query log of a server and what it sends as dnstap, while the context lasts."""
    render: Render[Sample, Mapping[str, Any]] = lambda sample, anonymise: query_log_line(  # noqa: E731
        sample, anonymise, server.engine.session_bases
    )
    lines = lambda settings: SampleLog(settings, render, JsonLines(settings.file))  # noqa: E731
    with (
        configured(live, lambda node: node.log.queries, lines, partial(server.sample, "query_log")),
        configured(live, lambda node: node.log.dnstap, partial(_dnstap, server), partial(server.sample, "dnstap")),
    ):
        yield


def _dnstap(server: DnsServer, settings: DnstapSettings) -> SampleLog[Sample, bytes]:
    from dnsvip.dns.dnstap import CONTENT_TYPE, frame  # noqa: PLC0415 - Protocol Buffers, for those who use dnstap
    from dnsvip.telemetry.frame_streams import FrameStream  # noqa: PLC0415

    whole = settings.keep4 == 32 and settings.keep6 == 128
    render: Render[Sample, bytes] = lambda sample, anonymise: frame(  # noqa: E731
        sample, anonymise, server.engine.session_bases, whole=whole
    )
    return SampleLog(settings, render, FrameStream(settings.receiver, CONTENT_TYPE))
