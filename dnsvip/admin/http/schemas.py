"""JSON schemas of the forms that operations take and answer, made from the types that read and write them."""

from __future__ import annotations

from typing import Any, Literal

from dnsvip.admin.http.operation import Listed, Patch, adapter
from dnsvip.site.plain import JsonObject
from dnsvip.site.registry import KINDS, Kind

REF = "#/components/schemas/{model}"
"""A reference to a shared schema."""


class Schemas:
    """Schemas of forms; what they share is collected in `definitions`."""

    def __init__(self) -> None:
        self.definitions: JsonObject = {}

    def of(self, form: Any, mode: Literal["validation", "serialization"]) -> JsonObject:
        """The schema of a form as an Operation names it."""
        match form:
            case None:
                return {"type": "object"}
            case str():
                return self._kind(form, mode)
            case Listed():
                brief = KINDS[form.kind].brief
                item = _brief(KINDS[form.kind]) if brief else self._with_extras(KINDS[form.kind], mode)
                return self._page({"anyOf": [*item.get("anyOf", [item]), _UNREADABLE]})
            case Patch():
                whole = form.form
                schema = self._kind(whole, "validation") if isinstance(whole, str) else self.of(whole, "validation")
                return _patch(schema, self.definitions)
            case dict():
                return form
        schema = adapter(form).json_schema(mode=mode, ref_template=REF)
        self.definitions |= schema.pop("$defs", {})
        return schema

    def _kind(self, kind: str, mode: Literal["validation", "serialization"]) -> JsonObject:
        refs = []
        for model in KINDS[kind].classes:
            name = model.__name__ + ("" if mode == "validation" else "Shown")
            if name not in self.definitions:
                schema = self.of(model, mode)
                if "$ref" in schema:
                    schema = dict(self.definitions[schema["$ref"].rpartition("/")[2]])
                self.definitions[name] = _as_body(kind, schema) if mode == "validation" else _as_shown(kind, schema)
            refs.append({"$ref": REF.format(model=name)})
        return refs[0] if len(refs) == 1 else {"anyOf": refs}

    def _with_extras(self, kind: Kind, mode: Literal["validation", "serialization"]) -> JsonObject:
        """An object as a list shows it: with the computed fields, times in unix seconds."""
        item = self._kind(kind.name, mode)
        if not kind.extras:
            return item
        shown = self.definitions[item["$ref"].rpartition("/")[2]]
        times = {
            name: {"anyOf": [{"type": "number"}, {"type": "null"}], "x-ui": about.ui()}
            for name, about in kind.extras.items()
        }
        return {**shown, "properties": shown["properties"] | times, "required": [*shown["required"], *times]}

    def _page(self, item: JsonObject) -> JsonObject:
        count = {"total": {"type": "integer"}, "total_is": {"enum": ["exact", "at-least"]}}
        return {
            "type": "object",
            "properties": {
                "items": {"type": "array", "items": item},
                "next": {"type": ["string", "null"], "description": "The path of the next page."},
                **count,
            },
            "required": ["items", "next"],
        }


_UNREADABLE = {
    "title": "An object that cannot be read",
    "description": "It is damaged or of another version: PUT replaces it, DELETE removes it.",
    "type": "object",
    "properties": {"name": {"type": "string"}, "unreadable": {"type": "string"}},
    "required": ["name", "unreadable"],
    "additionalProperties": False,
}


def _as_body(kind: str, schema: JsonObject) -> JsonObject:
    """An object as it is written: its name is that of the path."""
    required = [key for key in schema.get("required", []) if key != "name"]
    properties = {key: value for key, value in schema["properties"].items() if key != "name"}
    return {**schema, "properties": properties, "required": required, "title": f"{schema.get('title')} to write"}


def _as_shown(kind: str, schema: JsonObject) -> JsonObject:
    """An object as it is shown: whole, without what is only written."""
    properties = {key: value for key, value in schema["properties"].items() if key not in KINDS[kind].secrets}
    return {**schema, "properties": properties, "required": list(properties)}


def _brief(kind: Kind) -> JsonObject:
    """An object as a list shows it where that leaves most of it out: its listed fields and the computed ones."""
    properties: JsonObject = {name: {"type": "string"} for name, field in kind.fields.items() if field.about.listed}
    properties |= {name: {"type": "integer", "x-ui": about.ui()} for name, about in kind.extras.items()}
    return {"type": "object", "properties": properties, "required": list(properties)}


def _patch(schema: JsonObject, definitions: JsonObject) -> JsonObject:
    """A merge patch (RFC 7396): any of the fields, null for the default."""
    some = schema.get("anyOf", [schema])
    whole = [definitions[form["$ref"].rpartition("/")[2]] if "$ref" in form else form for form in some]
    properties = {
        key: {"anyOf": [_without_default(value), {"type": "null"}]}
        for form in whole
        for key, value in form["properties"].items()
    }
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _without_default(schema: JsonObject) -> JsonObject:
    return {key: value for key, value in schema.items() if key != "default"}
