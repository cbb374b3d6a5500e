"""Values on the command line that need parsing; each error says what would be right."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import IPv6Network, ip_address
from typing import Any

import click

from dnsvip.suggestion import did_you_mean


class Parsed(click.ParamType):  # type: ignore[type-arg]  # generic in some versions of click only
    """A value read by a function that raises ValueError; `right` describes a valid one."""

    def __init__(self, name: str, read: Callable[[str], Any], right: str) -> None:
        self.name, self._read, self._right = name, read, right

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value, or a usage error."""
        try:
            return self._read(value) if isinstance(value, str) else value
        except ValueError:
            self.fail(f"{value!r}: must be {self._right}", param, ctx)


class Choice(click.Choice[str]):
    """One of some words; the one that is probably meant is named."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        """What to say of any other word."""
        known = ", ".join(map(repr, self.choices))
        return f"{value!r} is not one of {known}{did_you_mean(str(value), list(self.choices))}"


def _read_time(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _read_layout(text: str) -> tuple[tuple[str, int], ...]:
    pairs = [part.partition(":") for part in text.split(",")]
    if not all(name for name, _, _ in pairs):
        raise ValueError(text)
    return tuple((name, int(bits)) for name, _, bits in pairs)


def _read_field(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ValueError(text)
    return name, value


ADDRESS = Parsed("address", ip_address, "an IPv6 or IPv4 address")
TIME = Parsed("time", _read_time, "unix seconds or an ISO 8601 time such as 2026-01-31T12:00:00Z")
HEX = Parsed("hex", bytes.fromhex, "hexadecimal digits")
PREFIX = Parsed("prefix", IPv6Network, "an IPv6 prefix such as 2001:db8:a:1::/64")
LAYOUT = Parsed("layout", _read_layout, "NAME:BITS,NAME:BITS,..., such as tier:4,client:20,expiry:7,nonce:6")
FIELD = Parsed("field", _read_field, "NAME=VALUE")

NARROW = "narrow_"
"""What the parameters that narrow the scopes of a token begin with; then follows the list of the objects."""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    """The seconds of a time such as 12h, as the callback of an option."""
    if value is None:
        return None
    number, unit = (value[:-1], value[-1:]) if value[-1:] in _UNITS else (value, "s")
    if not (number.isascii() and number.isdigit()):
        raise click.BadParameter("must be a time such as 12h or 90d")
    return int(number) * _UNITS[unit]
