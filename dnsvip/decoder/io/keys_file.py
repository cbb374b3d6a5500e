"""The decoding keys as they were fetched last, on disk: a decoder starts with them while the API is away.

The file is encrypted under a key that is derived from the API token: it is worth no more than the token, and nothing
once that is forgotten.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from dnsvip.address.mac import derive
from dnsvip.decoder.keys import DecodingKeys, read, to_json
from dnsvip.errors import ConfigError
from dnsvip.site.io.safe_file import make_folder, read_regular, write_file

FILE = "decoding-keys"
"""Its name in state_dir."""


def load(folder: Path, token: str) -> dict[str, DecodingKeys]:
    """The stored keys by cluster, none where there is no file; raises ConfigError where it cannot be read."""
    path = folder / FILE
    try:
        stored = json.loads(_cipher(token).decrypt(read_regular(path)))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, InvalidToken) as error:
        why = "was stored under another token" if isinstance(error, InvalidToken) else str(error)
        raise ConfigError(f"{path}: cannot be read: {why}") from None
    return {name: read(json.dumps(document), str(path)) for name, document in stored.items()}


def save(folder: Path, token: str, documents: Mapping[str, DecodingKeys]) -> None:
    """Store the keys in place of those before; raises StoreError."""
    make_folder(folder)
    text = json.dumps({name: to_json(document) for name, document in documents.items()})
    write_file(folder / FILE, _cipher(token).encrypt(text.encode()))


def _cipher(token: str) -> Fernet:
    label = b"dnsvip v1 decoding keys "
    halves = derive(token.encode(), label + b"1") + derive(token.encode(), label + b"2")
    return Fernet(base64.urlsafe_b64encode(halves))
