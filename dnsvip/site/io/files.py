"""Reads the two files an operator writes: the site file, with its zone files beside it, and the node file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from dnsvip.errors import ConfigError, InvalidSite
from dnsvip.site import Site
from dnsvip.site.node_file import NodeConfig, build_node
from dnsvip.site.site_file import ReadZoneFile, build_site


def load_site(path: Path) -> Site:
    """The site in a TOML file; zone files are read from beside it.

    Raises InvalidSite with all problems, or ConfigError where a file cannot be read.
    """
    try:
        return build_site(_read_toml(path), zone_files(path.parent))
    except InvalidSite as error:
        raise InvalidSite(error.problems, str(path)) from None


def load_node(path: Path) -> NodeConfig:
    """The node file at `path`, its paths made absolute; raises ConfigError with every problem."""
    return build_node(_read_toml(path), path.parent.resolve() / path.name)


def zone_files(folder: Path) -> ReadZoneFile:
    """Reads zone files by their names relative to `folder`; what it returns raises ConfigError."""
    return lambda name: _read_text(folder / name)


def _read_text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from error
