"""`dnsvip services`: names whose addresses are made per client."""

from __future__ import annotations

from dnsvip.cli.nouns import noun

services = noun(
    "services",
    "service",
    {
        "NAME": lambda service: service["name"],
        "CLUSTER": lambda service: service["cluster"],
        "CLUSTER4": lambda service: service["cluster4"],
    },
)
