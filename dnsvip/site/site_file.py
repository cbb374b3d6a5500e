"""The site file: what all nodes share, from parsed TOML tables to a checked Site.

All problems are reported at once, each under the dotted path of its key. `dnsvip.site.io.files` reads the files
themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from dnsvip.errors import ConfigError, InvalidSite, Problem
from dnsvip.site import CatalogRole, Site
from dnsvip.site.plain import canonical_name, parse
from dnsvip.site.registry import COLLECTIONS, KINDS, SINGLE
from dnsvip.site.rules import check_site
from dnsvip.suggestion import did_you_mean

ReadZoneFile: TypeAlias = Callable[[str], str]
"""From a zone file's name, as the site file gives it, to its text; raises ConfigError."""


def build_site(tables: Mapping[str, Any], read_zone_file: ReadZoneFile | None = None) -> Site:
    """The site in parsed TOML tables; raises InvalidSite with every problem.

    A zone names its file, whose text `read_zone_file` gives; without that argument zones are given as `text`."""
    problems = [Problem(name, _unknown(name)) for name in tables.keys() - {*COLLECTIONS, SINGLE}]
    objects: dict[str, Any] = {}
    for kind, attribute in COLLECTIONS.items():
        objects[attribute] = {}
        for name, body in _named_tables(kind, tables, problems):
            try:
                key = canonical_name(kind, name)
                objects[attribute][key] = parse(kind, key, _site_body(kind, name, body, read_zone_file))
            except InvalidSite as error:
                problems += error.problems
    single = tables.get(SINGLE, {})
    if not isinstance(single, dict):
        problems.append(Problem(SINGLE, f"must be a table [{SINGLE}]"))
        single = {}
    try:
        objects[SINGLE] = parse(SINGLE, "", single)
    except InvalidSite as error:
        problems += error.problems
    if not problems:
        site = Site(**objects)
        problems = check_site(site)
    if problems:
        raise InvalidSite(problems)
    return site


def _unknown(name: str) -> str:
    known = [*COLLECTIONS, SINGLE]
    meant = did_you_mean(name, known)
    return f"unknown table{meant}{' K' if meant else '; k'}nown: {', '.join(known)}"


def _named_tables(kind: str, tables: Mapping[str, Any], problems: list[Problem]) -> list[tuple[str, dict[str, Any]]]:
    named = tables.get(kind, {})
    if not isinstance(named, dict):
        problems.append(Problem(kind, f"must be tables [{kind}.NAME]"))
        return []
    wrong = [name for name, body in named.items() if not isinstance(body, dict)]
    problems += [Problem(f"{kind}.{name}", f"must be a table of its own, [{kind}.NAME]") for name in wrong]
    return [(name, body) for name, body in named.items() if name not in wrong]


def _site_body(kind: str, name: str, body: dict[str, Any], read_zone_file: ReadZoneFile | None) -> dict[str, Any]:
    for path in KINDS[kind].runtime:
        head, _, tail = path.partition(".")
        named = any(tail in item for item in body.get(head, ()) if isinstance(item, dict)) if tail else head in body
        if named:
            what = (
                f"{path} is set while the site runs, by the API or `dnsvip {KINDS[kind].plural}`, not by the site file"
            )
            raise InvalidSite([Problem(f"{kind}.{name}", what)])
    if kind != "zone" or read_zone_file is None:
        return body
    where = f"zone.{name}.file"
    if body.get("primaries") or body.get("catalog") == CatalogRole.PRODUCE:
        if body.keys() & {"file", "text"}:
            text = "leave it out: the zone is transferred from its primaries, or made as a catalog"
            raise InvalidSite([Problem(where, text)])
        return body
    if not isinstance(body.get("file"), str):
        raise InvalidSite([Problem(where, "missing; name the zone file, relative to the site file")])
    try:
        text = read_zone_file(body["file"])
    except ConfigError as error:
        raise InvalidSite([Problem(where, str(error))]) from None
    return {**{key: value for key, value in body.items() if key != "file"}, "text": text}
