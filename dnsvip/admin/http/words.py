"""The `x-ui` part of the OpenAPI document: what a form or a list needs to know of a field beside its type.

Label, help, unit and flags are added to a schema by the declaration itself (`dnsvip.site.declare.About`); here
follow the place of a field among the others and the words that it takes.
"""

from __future__ import annotations

from collections.abc import Iterator

from dnsvip.site.choices import words
from dnsvip.site.declare import Declared, declared
from dnsvip.site.plain import JsonObject
from dnsvip.site.registry import KINDS


def complete(definitions: JsonObject) -> None:
    """Add order and choices to every property of the schemas of declared classes, and choices to the items of lists."""
    for model in models():
        for name in (model.__name__, f"{model.__name__}Shown"):
            for key, schema in definitions.get(name, {}).get("properties", {}).items():
                place = _place(declared(model)[key])
                schema["x-ui"] |= place
                if "choices" in place and "items" in schema:
                    schema["items"] = {**schema["items"], "x-ui": {"choices": place["choices"]}}


def models() -> Iterator[type]:
    """Every class whose fields are declared: those of the kinds, and of the tables in them."""
    for kind in KINDS.values():
        yield from kind.classes
        yield from dict.fromkeys(field.model for _, field in kind.walk() if field.model is not None)


def _place(field: Declared) -> JsonObject:
    choices = [dict(zip(("value", "label", "help"), (word.value, *words(word)), strict=True)) for word in field.choices]
    return {"order": field.order, **({"choices": choices} if choices else {})}
