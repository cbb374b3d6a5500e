"""Log set-up with structlog. Events hold no secrets and no client addresses."""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from dnsvip.printable import printable
from dnsvip.site.node_log import ProcessLogSettings


def configure(settings: ProcessLogSettings) -> None:
    """Set format and level of all log lines of this process; they go to standard error."""
    console = settings.format == "console"
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *(_console() if console else _json()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[settings.level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,  # a reload changes the level of existing loggers
    )


def _console() -> tuple[Processor, ...]:
    # Plain tracebacks: the richer ones show local variables, and those may hold secrets.
    plain = structlog.dev.plain_traceback
    renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)
    return (structlog.processors.format_exc_info, _for_a_terminal, renderer)


def _for_a_terminal(_logger: WrappedLogger, _level: str, event: EventDict) -> EventDict:
    """An event whose texts, some of which are of others, control no terminal. Other values are shown by `repr`."""
    return {key: printable(value) if isinstance(value, str) else value for key, value in event.items()}


def _json() -> tuple[Processor, ...]:
    return (structlog.processors.format_exc_info, structlog.processors.JSONRenderer())
