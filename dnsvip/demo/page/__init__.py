"""The demo's page: one HTML file that draws the world and what was measured in it, for whoever decides."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path

from dnsvip import __version__
from dnsvip.demo.page.document import render
from dnsvip.demo.record import Act
from dnsvip.demo.report import Report, document_of
from dnsvip.site.io.safe_file import write_file

READABLE = 0o644


class Page(Report):
    """Writes the page when all acts are over; `plane` says where the dispatcher forwards."""

    def __init__(self, path: Path, plane: str) -> None:
        self._path, self._plane = path, plane

    def closing(self, acts: Sequence[Act], seconds: float, folder: Path) -> None:
        """Write the page; raises StoreError where the file cannot be written."""
        facts = {
            "made": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            "version": __version__,
            "machine": f"Linux {platform.release()} on {platform.machine()}, {os.cpu_count()} CPUs",
            "load": f"{os.getloadavg()[0]:.1f}",
            "plane": self._plane,
        }
        page = render({**document_of(acts, seconds, folder), "facts": facts})
        write_file(self._path, page.encode(), mode=READABLE)
