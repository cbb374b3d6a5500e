"""Every error that this package raises deliberately, under one root.

A message says what is wrong, where (file, table, key or line) and what would be right, so that it
can be shown to an operator unchanged. Decisions never raise: they return a reason.
"""

from __future__ import annotations

from dataclasses import dataclass

LONGEST_MESSAGE, LONGEST_WHERE = 400, 300
"""Characters of a message and of a place: both echo what callers send, which may be a megabyte."""


def cut(text: str, most: int) -> str:
    """A text of at most so many characters: of a longer one the beginning and the end, which say what is wrong and what
    would be right."""
    if len(text) <= most:
        return text
    tail = most // 3
    note = f" ...({len(text)} characters)... "
    return text[: most - tail - len(note)] + note + text[len(text) - tail :]


class DnsvipError(Exception):
    """Root of all deliberate errors; the command line prints it and exits with `exit_code`."""

    exit_code = 1


class CodecError(DnsvipError):
    """A layout, key or field value that cannot be used to encode or decode an address."""


class ConfigError(DnsvipError):
    """A site or node file (or an API body) that is wrong; nothing of it has been applied."""

    exit_code = 2


class StoreError(DnsvipError):
    """The database cannot be reached, or refuses, or holds something this version cannot read."""


class DiskFull(StoreError):
    """A disk has no room for what is to be stored; it is named, and nothing has changed."""


class NotAllowed(StoreError):
    """The user of the database lacks a right there; which one is named."""


class UncertainCommit(StoreError):
    """The database was lost while it committed a change: it has been made as a whole, or not at all."""


class DatabaseBusy(StoreError):
    """Callers of the API use all of the database that is for them; nothing has been done."""


class OwnRequests(DatabaseBusy):
    """The caller itself has too many requests that use the database."""


class TooManySessions(DatabaseBusy):
    """All sessions of the console are others', each of whom has as few as the caller would."""


class UnreadableError(StoreError):
    """One object that is stored in a form that this version cannot read; it can be replaced and removed."""


class SecretError(DnsvipError):
    """A key-encryption key or wrapped secret that is missing, unreadable or does not fit."""


class RevokedError(DnsvipError):
    """The token of a caller is not good any more, or allows something else than when its request was let in."""


class ClientError(DnsvipError):
    """An enrolment that is wrong, or a resolution that gave no usable address."""


class PlatformError(DnsvipError):
    """The machine lacks something (a capability, a device, a package); the message says how to get it."""

    exit_code = 3


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a site: `where` is a dotted path such as `tier.gold.pool`.

    `about` is the object of the path and `names` are others that the message names, each as (kind, name): who may not
    see them reads `hidden` instead.
    """

    where: str
    message: str
    names: tuple[tuple[str, str], ...] = ()
    hidden: str = ""
    about: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        """Cut what is too long to be read, wherever a problem is made."""
        for field, most in (("where", LONGEST_WHERE), ("message", LONGEST_MESSAGE), ("hidden", LONGEST_MESSAGE)):
            if len(text := getattr(self, field)) > most:
                object.__setattr__(self, field, cut(text, most))

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


class ObjectError(Exception):
    """An unexpected `error` while the object of a site at `where` was dealt with: no deliberate error, a fault of this
    program. Who guards a decision reports it, and drops or refuses what it was about."""

    def __init__(self, where: str, error: Exception) -> None:
        self.where, self.error = where, error
        super().__init__(f"{where}: {type(error).__name__}: {error}")


class InvalidSite(ConfigError):
    """A site that breaks rules; `problems` lists every one of them, not only the first."""

    def __init__(self, problems: list[Problem], source: str = "") -> None:
        self.problems = problems
        self.source = source
        head = f"{source}: " if source else ""
        super().__init__("\n".join(f"{head}{problem}" for problem in problems))

    def __reduce__(self) -> tuple[type[InvalidSite], tuple[list[Problem], str]]:
        return type(self), (self.problems, self.source)


class Conflict(InvalidSite):
    """Changes that collide with what is stored: a number, name or match of another object, an object that
    has changed or gone meanwhile, or no free key slot. Nothing has been applied."""


class ZoneError(InvalidSite):
    """A zone that cannot be served; each problem names the line it is on."""
