"""`dnsvip services`: names whose addresses are made per client."""

from __future__ import annotations

import click

from dnsvip.cli.shared.nouns import noun

services = noun(
    "services",
    "service",
    {
        "NAME": lambda service: service["name"],
        "CLUSTER": lambda service: service["cluster"],
        "CLUSTER4": lambda service: service["cluster4"],
    },
    filters=[click.Option(["--cluster"], help="Only those whose addresses are made in it, of either family.")],
)
