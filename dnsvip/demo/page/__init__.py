"""stub"""

from __future__ import annotations
import json
from collections.abc import Sequence
from pathlib import Path
from dnsvip.demo.record import Act
from dnsvip.demo.report import Report, document_of


class Page(Report):
    """x"""

    def __init__(self, path: Path, plane: str) -> None:
        self._path = path

    def closing(self, acts: Sequence[Act], seconds: float, folder: Path) -> None:
        """x"""
        self._path.write_text(json.dumps(document_of(acts, seconds, folder)))
