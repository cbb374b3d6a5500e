"""`dnsvip clusters`: prefixes and what their addresses carry."""

from __future__ import annotations

import click

from dnsvip.cli.shared.nouns import noun
from dnsvip.site.plain import JsonObject


def _carries(cluster: JsonObject) -> str:
    if "classes" in cluster:
        return ", ".join(f"{tier} {numbers}" for tier, numbers in cluster["classes"].items())
    return ", ".join(f"{field} {bits}" for field, bits in [*cluster["layout"], ["tag", cluster["tag_bits"]]])


clusters = noun(
    "clusters",
    "cluster",
    {
        "NAME": lambda cluster: cluster["name"],
        "PREFIX": lambda cluster: cluster["prefix"],
        "PLAIN": lambda cluster: cluster["plain"],
        "TTL": lambda cluster: cluster["ttl"],
        "DEFAULT": lambda cluster: cluster["default_tier"],
        "CARRIES": _carries,
    },
    filters=[click.Option(["--default-tier"], metavar="TIER", help="Only those whose plain addresses are in it.")],
)
