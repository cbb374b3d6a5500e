"""What a node remembers of its database, on its disk: `dnsvip.site.history.Memory` as one JSON file without keys."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from dnsvip.errors import StoreError
from dnsvip.site.history import Memory

FILE = "memory.json"

_adapter = TypeAdapter(Memory)


def save(folder: Path, memory: Memory) -> None:
    """Write it durably, whole or not at all; raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = folder / f".{FILE}.{os.getpid()}.{threading.get_ident()}"
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(asdict(memory), file)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(folder / FILE)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


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
