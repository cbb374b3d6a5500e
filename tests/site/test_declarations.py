"""Every field is declared once, with label and help, and the site file can set it and read it back."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from dnsvip.site.choices import words
from dnsvip.site.declare import Declared
from dnsvip.site.plain import collection, dump
from dnsvip.site.registry import COLLECTIONS, KINDS, SINGLE
from dnsvip.site.site_file import build_site
from tests.fields import ZONE, Sample, every_path, samples, value_at
from tests.samples import TABLES

SOURCES = Path(__file__).parents[2] / "dnsvip"


def fields() -> Iterator[tuple[str, Declared]]:
    for kind in KINDS.values():
        for path, field in kind.walk():
            yield f"{kind.name}.{path}", field


@pytest.mark.parametrize(("path", "field"), [pytest.param(path, field, id=path) for path, field in fields()])
def test_words(path: str, field: Declared) -> None:
    """A field has a label and one or two sentences of help; a reference names a kind; a filter has one value."""
    about = field.about
    assert re.fullmatch(r"[A-Z][\w -]{1,30}", about.label), path
    assert re.fullmatch(r"[A-Z].{10,}[.]", about.help), path
    assert about.help.count(". ") < 2, path
    assert "`" not in about.help, path  # it is shown as it is
    assert not about.refers or KINDS[about.refers].named
    assert not about.filtered or field.choices or field.plain_type in (str, bool, int) or path == "client.match"
    for choice in field.choices:
        label, text = words(choice)
        assert label, choice
        assert text.endswith("."), choice
        assert "`" not in text, choice


def test_kinds() -> None:
    """A kind declares all fields of its classes, and lists show each column once."""
    for kind in KINDS.values():
        assert kind.label
        assert kind.help.endswith(".")
        for model in kind.classes:
            assert {field.name for field in dataclasses.fields(model)} <= kind.fields.keys()
        columns = [(each.about.listed, each.about.heading or name) for name, each in kind.fields.items()]
        columns += [(about.listed, name) for name, about in kind.extras.items()]
        places = [place for place, _ in set(columns) if place]
        assert len(set(places)) == len({name for place, name in columns if place})


def test_samples_cover_every_field() -> None:
    """The samples set every field of every kind to a non-default value."""
    for kind in KINDS.values():
        own = [sample for sample in samples() if sample.kind is kind]
        assert {path for sample in own for path in sample.paths} == every_path(kind)
        for sample in own:
            for path in sample.paths:
                field = dict(kind.walk())[path]
                assert value_at(sample.body, path) != field.default


@pytest.mark.parametrize("sample", samples(), ids=lambda sample: f"{sample.kind.name}-{sample.name}")
def test_site_file(sample: Sample) -> None:
    """The site file sets each field and reads it back; it refuses runtime fields by name."""
    tables: dict[str, Any] = deepcopy(dict(TABLES))
    tables["zone"] = {"example.test": {"text": ZONE}, "every.test": {"text": ZONE}}
    tables["tsig"]["spare-key"] = {"secret": "c2VjcmV0"}
    tables["cluster"]["web"]["layout"] = [["tier", 4], ["client", 20], ["lang", 2], ["expiry", 7], ["nonce", 4]]
    tables["cluster"]["web"]["values"] = {"lang": {"en": 1}}
    body = deepcopy(sample.body)
    for path in sample.kind.runtime:
        head, _, tail = path.partition(".")
        for table in body.get(head, []) if tail else [body]:
            table.pop(tail or head, None)
    if sample.kind.named:
        tables.setdefault(sample.kind.name, {})[sample.name] = body
    else:
        tables[sample.kind.name] = body
    site = build_site(tables)
    thing = collection(site, sample.kind.name)[sample.name] if sample.kind.named else site.classify
    shown = dump(thing)
    for path in (path for path in sample.paths if path not in sample.kind.runtime and path != "servers"):
        assert value_at(shown, path) == value_at(body, path), path
    for before, after in zip(body.get("servers", []), shown.get("servers", []), strict=True):
        assert after == before if isinstance(before, str) else after | before == after


def test_no_list_is_repeated() -> None:
    """No source repeats a class's field names or a choice's values."""
    sets = [frozenset(str(word) for word in field.choices) for _, field in fields() if len(field.choices) > 2]
    sets += [frozenset(kind.fields) for kind in KINDS.values() if len(kind.fields) > 3]
    sets += [frozenset(COLLECTIONS), frozenset(COLLECTIONS) | {SINGLE}]
    for file in SOURCES.rglob("*.py"):
        for literal in re.findall(r"[(\[{]((?:\s*\"[a-z0-9_+-]+\",?){3,}\s*)[)\]}]", file.read_text()):
            assert frozenset(re.findall(r"\"([^\"]+)\"", literal)) not in sets, (file, literal)
