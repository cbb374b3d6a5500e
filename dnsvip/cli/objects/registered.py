"""`dnsvip clusters`, `tiers`, `pools`, `services`, `dns-groups`, `classify`: the nouns made from the registry, and what
the addresses of a cluster would be like.
"""

from __future__ import annotations

import http

import click

from dnsvip.cli.shared import show
from dnsvip.cli.shared.api import EPILOG, Api, ApiError, with_api
from dnsvip.cli.shared.nouns import PAIRS, assigned, json_option, noun
from dnsvip.site.plain import JsonObject, merged
from dnsvip.site.registry import KINDS

clusters, tiers, pools, services, dns_groups, classify = (
    noun(KINDS[name]) for name in ("cluster", "tier", "pool", "service", "dns_group", "classify")
)


@clusters.command(epilog=EPILOG)
@click.argument("name")
@click.argument("pairs", nargs=-1, metavar=PAIRS)
@json_option
@with_api
def preview(api: Api, name: str, pairs: tuple[str, ...], *, as_json: bool) -> None:
    """Show what addresses of cluster NAME, new or changed like this, would be like; nothing is stored.

    Shows an example address and what it carries, the bits that a forger has to guess, and the seconds for which an
    expiry and keys last.
    """
    body = merged(_stored(api, name), assigned(pairs))
    show.item(api.call("POST", "clusters", name, "preview", body=body), as_json=as_json)


def _stored(api: Api, name: str) -> JsonObject:
    """The cluster as it is; empty where there is none yet."""
    try:
        stored: JsonObject = api.get("clusters", name)
    except ApiError as error:
        if error.status != http.HTTPStatus.NOT_FOUND:
            raise
        return {}
    return stored
