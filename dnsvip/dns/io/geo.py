"""Where addresses are, from MaxMind DB files (GeoIP2, GeoLite2, DB-IP): country, continent and network's AS number.

A file that is missing or broken at the start is a clear error; later the previous data stays in use until a valid
file is there. Files are copied into memory, so later changes on disk never reach the answers. It knows neither
clients nor queries.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeAlias

import maxminddb
import structlog
from maxminddb import InvalidDatabaseError

from dnsvip.dns.identity.identify import Address, Geo
from dnsvip.errors import ConfigError

_Stamp: TypeAlias = tuple[int, int, int]

log = structlog.get_logger(__name__)


class GeoFiles:
    """The files of `[geo]`, opened; raises ConfigError for one that cannot be used."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._stamps = [_stamp(path) for path in paths]
        self._data = [_load(path) for path in paths]
        self._said = ""

    @property
    def geo(self) -> Geo | None:
        """A look-up in the data loaded now; None without files."""
        return look_up(tuple(self._data)) if self._data else None

    def refresh(self) -> bool:
        """Load replaced files; whether there were any. A broken one is logged once and ignored."""
        loaded = False
        for number, path in enumerate(self._paths):
            try:
                stamp = _stamp(path)
                if stamp == self._stamps[number]:
                    continue
                self._data[number] = _load(path)
                self._stamps[number], self._said, loaded = stamp, "", True
            except ConfigError as error:
                if str(error) != self._said:
                    self._said = str(error)
                    log.warning("geo data cannot be loaded, going on with what there is", error=self._said)
        return loaded


def look_up(readers: Sequence[maxminddb.Reader]) -> Geo:
    """Everything the files have about an address, within the smallest of their networks around it."""

    def find(address: Address) -> tuple[tuple[tuple[str, int], ...], int]:
        values: list[tuple[str, int]] = []
        longest = 0
        for reader in readers:
            if address.version > reader.metadata().ip_version:
                continue
            try:
                record, length = reader.get_with_prefix_len(address)
            except InvalidDatabaseError:  # damaged there: only this address has no data
                record, length = None, address.max_prefixlen
            longest = max(longest, length)
            if isinstance(record, dict):
                values += ((name, length) for name in (place(record) for place in PLACES) if name)
        return tuple(sorted(values, key=lambda value: _breadth(value[0]))), longest

    return find


def _number(record: Mapping[str, Any]) -> str:
    number = record.get("autonomous_system_number")
    return f"asn:{number}" if number else ""


def _code(kind: str, key: str) -> Callable[[Mapping[str, Any]], str]:
    def find(record: Mapping[str, Any]) -> str:
        inner = record.get(kind)
        code = inner.get(key) if isinstance(inner, dict) else None
        return f"{kind}:{code}" if code else ""

    return find


PLACES: Sequence[Callable[[Mapping[str, Any]], str]] = (
    _number,
    _code("country", "iso_code"),
    _code("continent", "code"),
)
"""What is read from a record, in the words of `{ geo = ... }`."""

PROBES = tuple(map(ip_address, ("1.1.1.1", "129.1.1.1", "223.1.1.1", "2001:db8::1", "2a00::1")))
"""Addresses looked up in a file before it is used; a truncated file fails."""

_BREADTHS = ("asn", "country", "continent")


def _breadth(value: str) -> int:
    """How wide a location is; the narrowest that a client claims decides."""
    return _BREADTHS.index(value.partition(":")[0])


def _stamp(path: Path) -> _Stamp:
    try:
        status = path.stat()
    except OSError as error:
        raise ConfigError(f"geo.database: {path}: cannot be read: {error.strerror}") from error
    return status.st_ino, status.st_mtime_ns, status.st_size


def _load(path: Path) -> maxminddb.Reader:
    """A reader of a copy: a mapping of the file itself would kill this process if it were truncated."""
    copy = os.memfd_create("geo")
    try:
        with open(copy, "wb", closefd=False) as file:
            file.write(path.read_bytes())
        reader = maxminddb.open_database(f"/proc/self/fd/{copy}")
        for probe in PROBES:
            if probe.version <= reader.metadata().ip_version:
                reader.get(probe)
    except OSError as error:
        raise ConfigError(f"geo.database: {path}: cannot be read: {error.strerror}") from error
    except (InvalidDatabaseError, ValueError) as error:
        raise ConfigError(f"geo.database: {path}: is not a MaxMind DB file (.mmdb): {error}") from error
    finally:
        os.close(copy)
    return reader
