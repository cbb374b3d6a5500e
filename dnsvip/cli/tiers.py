"""`dnsvip tiers`: classes of clients."""

from __future__ import annotations

from dnsvip.cli.nouns import noun

tiers = noun(
    "tiers",
    "tier",
    {
        "NAME": lambda tier: tier["name"],
        "CODE": lambda tier: tier["code"],
        "ACTION": lambda tier: tier["action"],
        "POOL": lambda tier: tier["pool"],
        "DSCP": lambda tier: tier["dscp"],
        "RATE": lambda tier: tier["rate"],
        "PROOF": lambda tier: tier["require_proof"],
    },
)
