"""`dnsvip dns-tokens`: what identifies clients over encrypted DNS. The site has digests alone."""

from __future__ import annotations

from dnsvip.cli.shared.nouns import noun
from dnsvip.site.registry import KINDS

dns_tokens = noun(KINDS["dns_token"])
