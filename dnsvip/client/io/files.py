"""The enrolment file: its path, and that only its owner can read it."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from dnsvip.client.enrolment import Enrolment, dump, parse
from dnsvip.errors import ClientError
from dnsvip.site.io.safe_file import make_folder, write_file

ENVIRONMENT = "DNSVIP_ENROLMENT"


def default_path(environ: Mapping[str, str] = os.environ) -> Path:
    """$DNSVIP_ENROLMENT, else dnsvip/enrolment.json in $XDG_CONFIG_HOME (default ~/.config); raises ClientError for a
    user without a home folder."""
    named = environ.get(ENVIRONMENT)
    if named:
        return Path(named)
    base = environ.get("XDG_CONFIG_HOME")
    try:
        return (Path(base) if base else Path.home() / ".config") / "dnsvip" / "enrolment.json"
    except RuntimeError:
        raise ClientError(f"this user has no home folder: name the enrolment's file in {ENVIRONMENT}") from None


def tickets_path(enrolment: Path) -> Path:
    """Where the tickets of the enrolment in a file are kept: beside it."""
    return enrolment.with_name(f"{enrolment.stem}.tickets.json")


def find_enrolment(path: Path | None = None) -> Enrolment | None:
    """The enrolment at `path`, or the imported one; None where neither exists.

    Raises ClientError for a file that is named and missing, wrong, or open to others.
    """
    if path is None and not os.environ.get(ENVIRONMENT) and not default_path().exists():
        return None
    return load(path or default_path())


def load(path: Path) -> Enrolment:
    """The enrolment in a file; raises ClientError, also where others can read the file."""
    text = read(path)
    check_private(path)
    return parse(text, str(path))


def check_private(path: Path) -> None:
    """Raises ClientError where others can read a file."""
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ClientError(f"{path}: others can read it, and it holds keys: run `chmod 600 {path}`")


def read(path: Path) -> str:
    """The text of a file; raises ClientError where it cannot be read."""
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ClientError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def save(enrolment: Enrolment, path: Path) -> None:
    """Write the document atomically with mode 0600; raises ClientError."""
    make_folder(path.parent, error=ClientError)
    write_file(path, dump(enrolment).encode(), error=ClientError)
