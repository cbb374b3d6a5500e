"""What a node remembers of its database, on its disk: `dnsvip.site.history.Memory` as one JSON file without keys."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from dnsvip.errors import StoreError
from dnsvip.site.history import Memory
from dnsvip.site.io.safe_file import make_folder, write_file

FILE = "memory.json"

_adapter = TypeAdapter(Memory)


def save(folder: Path, memory: Memory) -> None:
    """Write it durably, whole or not at all; raises StoreError."""
    make_folder(folder)
    write_file(folder / FILE, json.dumps(asdict(memory)).encode())


def load(folder: Path) -> Memory:
    """What is remembered, nothing where there is no file; raises StoreError for one that cannot be read."""
    path = folder / FILE
    try:
        return _adapter.validate_json(path.read_bytes())
    except FileNotFoundError:
        return Memory()
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        raise StoreError(f"{path}: is damaged: {error.errors()[0]['msg']}") from error
