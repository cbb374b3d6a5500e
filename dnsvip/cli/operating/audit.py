"""`dnsvip audit`: who changed what and when, with old and new value."""

from __future__ import annotations

import json
from typing import Any

import click

from dnsvip.cli.shared import show
from dnsvip.cli.shared.api import EPILOG, Api, with_api
from dnsvip.cli.shared.nouns import json_option
from dnsvip.cli.shared.parameters import Choice
from dnsvip.site.plain import JsonObject

EXAMPLES = """
\b
Examples:
  dnsvip audit --kind client --name acme
  dnsvip audit --actor "token robot" --since 2026-11-24T08:00:00Z --limit 20
  dnsvip audit --changes --limit 10
  dnsvip audit --generation 42
"""

VERBS = {"+": "made", "~": "changed", "-": "removed"}


def _changes(row: JsonObject) -> str:
    """The differences in short."""
    before, after = (dict(show.flat(row[key] or {})) for key in ("before", "after"))
    if not before or not after:
        return ""
    return ", ".join(_one(key, before.get(key), after.get(key)) for key in after if before.get(key) != after.get(key))


def _one(key: str, old: Any, new: Any) -> str:
    return f"{key}: {json.dumps(old, ensure_ascii=False)} -> {json.dumps(new, ensure_ascii=False)}"


COLUMNS: show.Columns = {
    "WHEN": lambda row: show.moment(row["at"]),
    "WHO": lambda row: row["actor"],
    "FROM": lambda row: row["source"] or "",
    "WHAT": lambda row: f"{row['kind']} {row['name']}".strip(),
    "": lambda row: VERBS.get(row["action"], row["action"]),
    "CHANGES": _changes,
    "GENERATION": lambda row: row["generation"],
}


CHANGES: show.Columns = {
    "WHEN": lambda change: show.moment(change["at"]),
    "WHO": lambda change: change["actor"],
    "FROM": lambda change: change["source"] or "",
    "ROWS": lambda change: f"{change['rows']}{'' if change['counted'] else ' or more'}",
    "WHAT": lambda change: [_part(part) for part in change["parts"]],
    "GENERATION": lambda change: change["generation"],
}
PAGE = 100
"""Changes that the API gives at a time."""


def _part(part: JsonObject) -> str:
    """The rows of a change of one kind and action, such as 'client acme, courier, robot and 97 more made'."""
    words = [part["kind"], ", ".join(part["names"])]
    if (more := part["rows"] - len(part["names"])) > 0:
        words.append(f"and {more} more")
    return " ".join(filter(None, [*words, VERBS.get(part["action"], part["action"])]))


def rows(api: Api, *path: str, limit: int, query: JsonObject, as_json: bool) -> None:
    """Print audit rows, newest first."""
    show.rows(COLUMNS, api.items(*path, limit=limit, query=query), as_json=as_json)


@click.command(epilog=EXAMPLES + "\n" + EPILOG)
@click.option("--kind", help="Only of this kind of object, such as client or tier.")
@click.option("--name", help="Only about the object of this name.")
@click.option("--actor", help="Only by this one, such as 'token robot'.")
@click.option("--source", help="Only from this address; 'unix' is the Unix socket.")
@click.option("--action", type=Choice(["made", "changed", "removed"]), help="Only what did this.")
@click.option("--since", metavar="TIME", help="Not older than this: unix seconds, or ISO 8601 with its offset.")
@click.option("--until", metavar="TIME", help="Not younger than this.")
@click.option("--generation", type=click.IntRange(1), help="Only what led to this generation: the rows of one change.")
@click.option("--changes", is_flag=True, help="One line for what was changed at once, such as by an import.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="At most this many.")
@json_option
@with_api
def audit(api: Api, *, action: str | None, changes: bool, limit: int, as_json: bool, **about: str | int | None) -> None:
    """Show what was changed, newest first, with old and new value."""
    query = {**about, "action": next((sign for sign, verb in VERBS.items() if verb == action), None)}
    if changes:
        items = api.items("audit", "changes", limit=limit, query=query, page=PAGE)
        show.rows(CHANGES, items, as_json=as_json)
    else:
        rows(api, "audit", limit=limit, query=query, as_json=as_json)
