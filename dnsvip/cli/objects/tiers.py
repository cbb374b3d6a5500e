"""`dnsvip tiers`: classes of clients."""

from __future__ import annotations

import click

from dnsvip.cli.shared.nouns import choice, noun
from dnsvip.site import TierAction

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
    filters=[
        click.Option(["--pool"], help="Only those whose traffic goes to this pool."),
        click.Option(["--action"], type=choice(TierAction), help="Only those with which this is done."),
    ],
)
