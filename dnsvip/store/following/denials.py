"""What the database says that it does not do for this node, for its log and its reports. Knows no database."""

from __future__ import annotations

import structlog

from dnsvip.errors import DiskFull, NotAllowed

LASTING = NotAllowed, DiskFull
"""What a database says that can be reached; of outages others tell."""

log = structlog.get_logger(__name__)


class Denials:
    """What is denied, by what it is needed for."""

    def __init__(self) -> None:
        self._why: dict[str, str] = {}

    def note(self, what: str, error: Exception) -> None:
        """Note that something cannot be done; what lasts is logged once, as a warning."""
        if not isinstance(error, LASTING):
            log.debug(what, error=str(error))
        elif self._why.get(what) != str(error):
            self._why[what] = str(error)
            log.warning(what, error=str(error))

    def end(self, what: str) -> None:
        """Note that something has been done."""
        self._why.pop(what, None)

    def __contains__(self, what: str) -> bool:
        return what in self._why

    def texts(self, but: str) -> list[str]:
        """All but one, as warnings."""
        return [f"{what}: {why}" for what, why in self._why.items() if what != but]
