"""Reads the two files an operator writes: the site file, with its zone files beside it, and the node file."""

from __future__ import annotations

import codecs
import re
import tomllib
from pathlib import Path
from typing import Any

from dnsvip.errors import ConfigError, InvalidSite
from dnsvip.site import Site
from dnsvip.site.node_decoder import DecoderNode, build_decoder_node
from dnsvip.site.node_file import NodeConfig, build_node
from dnsvip.site.site_file import ReadZoneFile, build_site
from dnsvip.site.size import is_deep
from dnsvip.site.which_file import DECODER, NODE, SITE, other_file

MOST_BYTES = 512 << 20
"""Bytes of a site file, node file or zone file."""

PIECE = 1 << 20
MOST_INCLUDED = 128 << 20
"""Bytes of a file that a zone file includes."""


def load_site(path: Path) -> Site:
    """The site in a TOML file; zone files are read from beside it.

    Raises InvalidSite with all problems, or ConfigError where a file cannot be read.
    """
    try:
        return build_site(_read_toml(path, SITE), zone_files(path.parent))
    except InvalidSite as error:
        raise InvalidSite(error.problems, str(path)) from None


def load_node(path: Path) -> NodeConfig:
    """The node file at `path`, its paths made absolute; raises ConfigError with every problem."""
    return build_node(_read_toml(path, NODE), path.parent.resolve() / path.name)


def load_decoder_node(path: Path) -> DecoderNode:
    """The node file of a decoder, as `load_node`."""
    return build_decoder_node(_read_toml(path, DECODER), path.parent.resolve() / path.name)


def zone_files(folder: Path) -> ReadZoneFile:
    """Reads zone files by their names relative to `folder`; what it returns raises ConfigError."""
    return lambda name: _read_zone_file(folder / name)


def included_files(folder: Path) -> ReadZoneFile:
    """Reads what zone files include, by names relative to `folder`, and nothing that is not inside of it; what it
    returns raises ConfigError."""
    return lambda name: _read_included(folder, name)


def zone_text(octets: bytes) -> str:
    """The octets of a zone file as text. What is not UTF-8 (a remark in Latin-1) becomes escapes such as `\\252`, which
    in a name or string stand for the same octets (RFC 1035 section 5.1)."""
    return octets.decode(errors=_ESCAPED)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(f"\\{octet:03d}" for octet in error.object[error.start : error.end]), error.end


_ESCAPED = "dnsvip-escaped"
codecs.register_error(_ESCAPED, _escaped)


def _read_zone_file(path: Path) -> str:
    try:
        return zone_text(_read(path, MOST_BYTES))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None


def _read_included(folder: Path, name: str) -> str:
    if name.startswith("/") or ".." in Path(name).parts:
        raise ConfigError(f"{name} must be a path inside the site file's folder, without /.. and not from / on")
    try:
        inside = folder.resolve(strict=True)
        path = (inside / name).resolve(strict=True)
        if not path.is_relative_to(inside):
            raise ConfigError(f"{name} is a link out of the site file's folder")
        if not path.is_file():
            raise ConfigError(f"{name} is no regular file")
        return zone_text(_read(path, MOST_INCLUDED))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{name}: {getattr(error, 'strerror', None) or error}") from None


_PART = r"""(?:[A-Za-z0-9_-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')"""
_LONG_KEY = re.compile(rf"(?:^|[\[{{,])[ \t]*+(?:{_PART}[ \t]*+\.[ \t]*+){{128}}", re.MULTILINE)
"""A key of more parts than a DNS name can have labels. tomllib takes time and memory by the square of them."""


def _read_toml(path: Path, wanted: str) -> dict[str, Any]:
    deep = f"{path}: is nested too deeply; no value of it needs more than a few levels"
    try:
        text = _read(path, MOST_BYTES).decode()
        if _LONG_KEY.search(text):
            raise ConfigError(deep)
        tables = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except RecursionError as error:
        raise ConfigError(deep) from error
    except ValueError as error:  # neither UTF-8 nor TOML, or a number of thousands of digits
        raise ConfigError(f"{path}: is not TOML: {error}") from error
    if is_deep(tables):
        raise ConfigError(deep)
    if other := other_file(tables, wanted):
        raise ConfigError(f"{path}: {other}")
    return tables


def _read(path: Path, most: int) -> bytes:
    """A file, which may be a pipe; raises ConfigError where there is no end to it, and OSError."""
    octets = bytearray()
    with path.open("rb") as file:
        while len(octets) <= most and (piece := file.read(PIECE)):
            octets += piece
    if len(octets) > most:
        raise ConfigError(f"{path} has more than {most} bytes, the most of such a file")
    return bytes(octets)
