"""`dnsvip pools`: servers that do the same work."""

from __future__ import annotations

import click

from dnsvip.cli.shared.nouns import choice, noun
from dnsvip.site import Forward
from dnsvip.site.plain import JsonObject


def _check(pool: JsonObject) -> str:
    check = pool["check"] or {}
    return ", ".join(f"{way} {check[way]}" for way in ("tcp", "http", "agent") if check.get(way))


pools = noun(
    "pools",
    "pool",
    {
        "NAME": lambda pool: pool["name"],
        "FORWARD": lambda pool: pool["forward"],
        "STICKINESS": lambda pool: pool["stickiness"],
        "CHECK": _check,
        "FALLBACK": lambda pool: pool["fallback"],
        "SERVERS": lambda pool: [server["name"] for server in pool["servers"]],
    },
    filters=[
        click.Option(["--forward"], type=choice(Forward), help="Only those that forward packets so."),
        click.Option(["--fallback"], metavar="POOL", help="Only those that fall back to this pool."),
    ],
)
