"""Logging at the edges, through structlog. Secrets and client addresses never enter an event."""

from __future__ import annotations

import logging
import sys

import structlog

from dnsvip.config import LogSettings


def configure(settings: LogSettings) -> None:
    """Set form and level of all log lines of this process; they go to standard error."""
    console = settings.format == "console"
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
            if console
            else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[settings.level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
