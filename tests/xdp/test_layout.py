"""The structs and lists that Python and C share are the same on both sides."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from dnsvip.dispatcher.io.xdp import layout
from dnsvip.dispatcher.io.xdp.layout import FORMS, Form
from dnsvip.dispatcher.reason import REASONS
from dnsvip.xdp.btf import Btf
from dnsvip.xdp.build import HERE


@pytest.fixture(scope="module")
def types() -> Iterator[Btf]:
    found = Btf.of_file(HERE / "dispatch.bpf.o")
    yield found
    found.close()


def header(name: str) -> str:
    return Path(HERE, name).read_text()


def enumerators(name: str, file: str, prefix: str) -> list[str]:
    """The members of a C enumeration as words, without the last one where it is a count."""
    body = re.search(rf"enum {name} {{(.*?)}}", re.sub(r"/\*.*?\*/", "", header(file), flags=re.DOTALL), re.DOTALL)
    assert body
    words = [word.strip() for word in body[1].split(",") if word.strip()]
    return [word.removeprefix(prefix).lower().replace("_", "-") for word in words if word.startswith(prefix)]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_struct_is_laid_out_as_in_the_object(form: Form, types: Btf) -> None:
    """Every struct that Python packs has the fields, offsets and sizes that the compiled program has."""
    known = {name: (field.offset, field.size) for name, field in types.struct(form.name).items()}
    assert {name: form.offsets()[name] for name in form.offsets()} == known
    assert form.size == types.size(form.name)


def test_reasons_are_the_same_list() -> None:
    """The program's counters have the names and the order of the reference's."""
    assert enumerators("reason", "reason.h", "REASON_") == list(REASONS)


@pytest.mark.parametrize(
    ("name", "file", "prefix", "words"),
    [
        ("side", "maps.h", "SIDE_", layout.SIDES),
        ("action", "work.h", "ACTION_", layout.ACTIONS),
        ("stickiness", "site.h", "STICKY_", layout.STICKINESS),
        ("mode", "site.h", "MODE_", layout.MODES),
        ("flow_state", "flow_types.h", "FLOW_", layout.FLOW_STATES),
    ],
)
def test_enumeration_is_the_same(name: str, file: str, prefix: str, words: tuple[str, ...]) -> None:
    """Enumerations have the same members in the same order."""
    assert enumerators(name, file, prefix) == list(words)


def test_sizes_are_the_same() -> None:
    """The bounds that Python keeps are the ones the program was compiled with."""
    text = header("site.h") + header("maps.h")
    for name in ("MAX_CLUSTERS", "MAX_TIERS", "MAX_POOLS", "MAX_SERVERS", "MAX_ATTRIBUTES", "MAX_RINGS", "MAX_CIPHERS"):
        found = re.search(rf"#define {name} (\d+)", text)
        assert found
        assert int(found[1]) == getattr(layout, name)
