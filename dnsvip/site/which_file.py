"""Which of the files of an operator some TOML tables are: one that is given in the place of another is named. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from dnsvip.site.node_decoder import DecoderNode
from dnsvip.site.node_file import NodeConfig
from dnsvip.site.registry import COLLECTIONS, SINGLE

SITE, NODE, DECODER = "site file", "node file", "decoder's file"

_KEYS = {
    SITE: {*COLLECTIONS, SINGLE},
    NODE: {field.name for field in fields(NodeConfig)},
    DECODER: {field.name for field in fields(DecoderNode)},
}
_USES = {
    SITE: "`dnsvip apply SITE.toml --config NODE.toml` takes it first",
    NODE: "`dnsvip apply SITE.toml --config NODE.toml` takes it second, `dnsvip serve` and `dispatch` take it alone",
    DECODER: "`dnsvip decoder` takes it",
}


def other_file(tables: Mapping[str, Any], wanted: str) -> str:
    """What to say where the tables are those of another file than the `wanted` one; empty where they may be its own."""
    if tables.keys() & (_KEYS[wanted] - _shared(wanted)):
        return ""
    own = {kind: len(tables.keys() & (_KEYS[kind] - _shared(kind))) for kind in _KEYS}
    likely = max(own, key=lambda kind: own[kind])
    return f"this looks like a {likely}, not a {wanted}; {_USES[likely]}" if own[likely] else ""


def _shared(kind: str) -> set[str]:
    """The keys of a file that others have too."""
    return {key for other, keys in _KEYS.items() if other != kind for key in keys}
