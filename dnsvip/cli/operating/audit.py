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
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="At most this many.")
@json_option
@with_api
def audit(api: Api, *, action: str | None, limit: int, as_json: bool, **about: str | None) -> None:
    """Show what was changed, newest first."""
    sign = next((sign for sign, verb in VERBS.items() if verb == action), None)
    rows(api, "audit", limit=limit, query={**about, "action": sign}, as_json=as_json)
