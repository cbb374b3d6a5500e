"""Certificate, key and client authorities of an encrypted listener: read again when they have changed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import structlog

from dnsvip.errors import PlatformError
from dnsvip.site.node_listen import OURS, ListenerTls

log = structlog.get_logger()


class ListenerFiles(ABC):
    """What a listener shows to clients, and takes from them. Raises PlatformError where its files cannot be used.

    `authorities` are those that the site keeps, as PEM.
    """

    def __init__(self, listener: str, files: ListenerTls, authorities: str) -> None:
        self._listener, self._files = listener, files
        self._stamp = self._stamp_of(authorities)
        self._load(authorities)
        self._trusted = authorities

    @abstractmethod
    def _load(self, authorities: str) -> None:
        """Use the files as they are; raises PlatformError, with what was in use left as it was."""

    @property
    def _trusts(self) -> bool:
        """Whether the authorities in use are those that the site keeps now."""
        return self._stamp[1] == self._trusted

    def refresh(self, authorities: str = "") -> bool:
        """Use the files and authorities as they are now from the next connection on; whether anything has changed. What
        cannot be used leaves what was in use, and the log says so; where authorities have changed with that, no client
        certificate is taken until it can be used."""
        stamp = self._stamp_of(authorities)
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            self._load(authorities)
            self._trusted = authorities
        except PlatformError as error:
            log.error("new files of a DNS certificate cannot be used, keeping the previous ones", error=str(error))
            return not self._trusts
        log.info("renewed a DNS certificate", listener=self._listener)
        return True

    def _stamp_of(self, authorities: str) -> tuple[tuple[int, ...], str]:
        files = self._files
        others = [Path(file) for file in files.client_ca if file != OURS]
        return stamp_of([files.certificate, files.key, *others]), authorities


def stamp_of(files: Iterable[Path]) -> tuple[int, ...]:
    """What differs when one of the files has changed."""
    stamp: list[int] = []
    for file in files:
        with suppress(OSError):
            status = file.stat()
            stamp += [status.st_ino, status.st_mtime_ns, status.st_size]
    return tuple(stamp)
