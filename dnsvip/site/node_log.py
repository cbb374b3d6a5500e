"""The table `[log]` of the node file: each setting declared once, with what people read about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, ConfigDict, Field

from dnsvip.site import STRICT, parse_endpoint
from dnsvip.site.declare import About
from dnsvip.site.node_admin import UNIX


@dataclass(frozen=True, slots=True)
class SampleSettings:
    """`[log.queries]` and `[log.flows]`: one query or new flow in `one_in` as a line of JSON, in `file` or else on
    standard output. Client addresses are truncated to `keep4` or `keep6` bits."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    one_in: Annotated[
        int,
        Field(ge=1, le=1_000_000_000),
        About("One in", "One query, or new or refused flow, in this many is logged; without the table none."),
    ] = 1000
    file: Annotated[
        Path | None, About("File", "Log file; by default standard output (standard error with several workers).")
    ] = None
    keep4: Annotated[
        int,
        Field(ge=0, le=32),
        About("IPv4 bits", "Bits of client IPv4 addresses that are logged; 32: whole addresses."),
    ] = 24
    keep6: Annotated[
        int,
        Field(ge=0, le=128),
        About(
            "IPv6 bits",
            "Bits of client IPv6 addresses that are logged; 128: whole addresses, and of flows the VIP and client too.",
        ),
    ] = 48


def _checked_receiver(text: str) -> str:
    path = text.removeprefix(UNIX)
    if path == text:
        parse_endpoint(text)
    elif not path or "\0" in path:
        raise ValueError("must be unix:PATH or ADDRESS:PORT")
    return text


@dataclass(frozen=True, slots=True)
class DnstapSettings:
    """`[log.dnstap]`: one query in `one_in`, or its response, as a message of dnstap to a receiver of Frame Streams.
    Client addresses are truncated to `keep4` or `keep6` bits."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    receiver: Annotated[
        str,
        AfterValidator(_checked_receiver),
        About("Receiver", "Receiver of Frame Streams: `unix:PATH` or `ADDRESS:PORT`; it is connected to again."),
    ]
    one_in: Annotated[
        int, Field(ge=1, le=1_000_000_000), About("One in", "One query in this many is sent, or its response.")
    ] = 1000
    keep4: Annotated[
        int, Field(ge=0, le=32), About("IPv4 bits", "Bits of client IPv4 addresses that are sent; 32: whole addresses.")
    ] = 24
    keep6: Annotated[
        int,
        Field(ge=0, le=128),
        About(
            "IPv6 bits",
            "Bits of client IPv6 addresses that are sent; with less than 32 or 128, messages are their header and "
            "question, and an OPT record without options.",
        ),
    ] = 48


@dataclass(frozen=True, slots=True)
class ProcessLogSettings:
    """`[log]` of a process that has no queries and flows: format and level of its log."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    format: Annotated[Literal["console", "json"], About("Format", "Lines for people, or JSON; on standard error.")] = (
        "console"
    )
    level: Annotated[Literal["debug", "info", "warning", "error"], About("Level", "Lowest level that is logged.")] = (
        "info"
    )


@dataclass(frozen=True, slots=True)
class LogSettings(ProcessLogSettings):
    """`[log]`: format and level of the process log, and samples of queries and flows; by default none."""

    queries: Annotated[SampleSettings | None, About("Queries", "Sample of the queries.")] = None
    flows: Annotated[SampleSettings | None, About("Flows", "Sample of the new and refused flows.")] = None
    dnstap: Annotated[DnstapSettings | None, About("Dnstap", "Sample of the queries as dnstap.")] = None
    top: Annotated[
        bool,
        About(
            "Top lists",
            "Count which names, networks and clients there are most of, for the overview of the console.",
        ),
    ] = True
