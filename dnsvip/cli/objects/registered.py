"""`dnsvip clusters`, `tiers`, `pools`, `services`, `dns-groups`, `classify`: the nouns made from the registry alone."""

from __future__ import annotations

from dnsvip.cli.shared.nouns import noun
from dnsvip.site.registry import KINDS

clusters, tiers, pools, services, dns_groups, classify = (
    noun(KINDS[name]) for name in ("cluster", "tier", "pool", "service", "dns_group", "classify")
)
