"""`dnsvip client-ca`: the site's own authority of client certificates."""

from __future__ import annotations

import click

from dnsvip.cli.shared import show
from dnsvip.cli.shared.api import EPILOG, Api, with_api
from dnsvip.cli.shared.nouns import json_option

COLUMNS: show.Columns = {
    "NUMBER": lambda authority: authority["number"],
    "STATE": lambda authority: "trusted" if authority["replaced_at"] else "active",
    "TRUSTED_UNTIL": lambda authority: show.moment(authority["trusted_until"]),
    "SHA256": lambda authority: authority["fingerprint"],
}


@click.group("client-ca", epilog=EPILOG)
def client_ca() -> None:
    """The authority that issues client certificates."""


@client_ca.command("show", epilog=EPILOG)
@click.option("--pem", is_flag=True, help="Print the certificates, for servers that shall trust them too.")
@json_option
@with_api
def show_all(api: Api, *, pem: bool, as_json: bool) -> None:
    """Show the authorities that are trusted, the one that signs first."""
    items = api.get("client-ca")["items"]
    if pem:
        click.echo("".join(item["certificate"] for item in items), nl=False)
    else:
        show.rows(COLUMNS, items, as_json=as_json)


@client_ca.command(epilog=EPILOG)
@with_api
def create(api: Api) -> None:
    """Make the authority; the first certificate that is issued does so too."""
    click.echo(f"authority {api.call('POST', 'client-ca')['number']} made")


@client_ca.command(epilog=EPILOG)
@with_api
def rotate(api: Api) -> None:
    """Make another authority; the one before is trusted while its certificates last."""
    number = api.call("POST", "client-ca", "rotate")["number"]
    click.echo(f"authority {number} signs from now on; those before are trusted until their certificates have ended")


@client_ca.command(epilog=EPILOG)
@click.argument("number", type=click.IntRange(1))
@with_api
def remove(api: Api, number: int) -> None:
    """Trust authority NUMBER no more: every certificate that it has issued is void at once."""
    api.call("DELETE", "client-ca", str(number))
    click.echo(f"authority {number} removed")
