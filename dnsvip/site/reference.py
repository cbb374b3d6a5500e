"""Every key of the site file in one page: what it takes, its default, what it does.

`python -m dnsvip.site.reference` prints it, and deploy/site.md is what it prints. All of it comes from the
declarations of the fields and the registry of kinds.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, is_dataclass
from typing import Any

from pydantic import TypeAdapter

from dnsvip.site.choices import words
from dnsvip.site.declare import Declared, declared
from dnsvip.site.registry import KINDS, Kind

HEAD = """\
# The site file

Every key of `SITE.toml`, as `dnsvip apply` takes it; the HTTP API takes the same keys as JSON, and so do the verbs
`add` and `set` of the command line. `a.b` is the key `b` in the table `a`; `a[].b` the key `b` of each table in the
list `a`. Fields marked *runtime* are set by API and command line while the site runs: a site file neither names nor
resets them. A zone's text is in a file of its own, which the site file names by the key `file`.

Made by `python -m dnsvip.site.reference` from the program's own declarations; do not edit.
"""
COLUMNS = "| key | takes | default | what it does |\n| --- | --- | --- | --- |\n"


def markdown() -> str:
    """The page."""
    return HEAD + "".join(_section(kind, model) for kind in KINDS.values() for model in kind.classes)


def takes(schema: Mapping[str, Any]) -> str:
    """What a value with a JSON schema may be, in words."""
    kinds = [each for each in schema.get("anyOf", [schema]) if each.get("type") != "null"]
    return " or ".join(dict.fromkeys(_takes(each) for each in kinds))


def _section(kind: Kind, model: type) -> str:
    title = f"[{kind.name}.NAME]" if kind.named else f"[{kind.name}]"
    family = f", {model.__doc__.split(':')[0].split(' ')[1]}" if len(kind.classes) > 1 and model.__doc__ else ""
    lines = "".join(_row(path, field, schema) for path, field, schema in rows(model))
    return f"\n## `{title}`{family}\n\n{kind.help}\n\n{COLUMNS}{lines}"


def rows(model: type, head: str = "") -> Iterator[tuple[str, Declared, Mapping[str, Any]]]:
    """Path, declaration and JSON schema of every field of a class and of the tables in it."""
    schema: Mapping[str, Any] = TypeAdapter(model).json_schema()
    for name, field in declared(model).items():
        if name == "name" and not head:
            continue  # it is the table's own
        if field.model is None:
            yield f"{head}{name}", field, schema["properties"][name]
        else:
            yield from rows(field.model, f"{head}{name}{'[]' if field.many else ''}.")


def _row(path: str, field: Declared, schema: Mapping[str, Any]) -> str:
    about = field.about
    form = ", ".join(f"`{choice}`" for choice in field.choices) if field.choices else takes(schema)
    form = f"list of {form}" if field.choices and field.many else form
    form = f"name of a {KINDS[about.refers].noun}" if about.refers and not field.mapping else form
    form += f", at most {about.most}" if about.most else ""
    unit = f" ({about.unit})" if about.unit and about.unit != "port" else ""
    text = [about.help, *(f"`{choice}`: {words(choice)[1]}" for choice in field.choices)]
    text += ["*(runtime)*"] if about.runtime else []
    return f"| `{path}` | {form}{unit} | {_default(field.default)} | {' '.join(text)} |\n"


def _default(value: Any) -> str:
    if value is MISSING:
        return "*required*"
    if value is None or value in ((), {}):
        return ""
    plain = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
    return f"`{json.dumps(plain)}`"


def _takes(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(schema["enum"])
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    match schema.get("type"):
        case "array" if "prefixItems" in schema:
            return f"[{', '.join(takes(item) for item in schema['prefixItems'])}]"
        case "array":
            return f"list of {_plural(takes(schema['items']))}"
        case "integer" | "number" as kind:
            return _NUMBERS[kind] + _bounds(schema)
        case "object":
            values = [schema.get("additionalProperties"), *schema.get("patternProperties", {}).values()]
            inner = next((value for value in values if isinstance(value, dict)), None)
            return "table" if inner is None else f"table of {_plural(takes(inner))}"
        case "boolean":
            return "true or false"
    return _FORMATS.get(schema.get("format", ""), "text")


def _plural(form: str) -> str:
    if " of " in form:
        return form.replace("list of", "lists of").replace("table of", "tables of")
    return f"{form}es" if form.endswith("s") else f"{form}s"


def _bounds(schema: Mapping[str, Any]) -> str:
    if "maximum" in schema:
        return f" {schema['minimum']} to {schema['maximum']}"
    if "exclusiveMinimum" in schema:
        return f" above {schema['exclusiveMinimum']}"
    return f" from {schema['minimum']}" if "minimum" in schema else ""


_NUMBERS = {"integer": "whole number", "number": "number"}
_FORMATS = {
    "path": "path",
    "ipv4": "IPv4 address",
    "ipv6": "IPv6 address",
    "ipv4network": "network",
    "ipv6network": "network",
}

if __name__ == "__main__":
    sys.stdout.write(markdown())
