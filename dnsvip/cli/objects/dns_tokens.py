"""`dnsvip dns-tokens`: what identifies clients over encrypted DNS. A text is printed once, when it is made."""

from __future__ import annotations

import click

from dnsvip.cli.shared import show
from dnsvip.cli.shared.api import EPILOG, Api, with_api
from dnsvip.cli.shared.nouns import json_option, noun
from dnsvip.cli.shared.parameters import seconds
from dnsvip.site.plain import JsonObject
from dnsvip.site.registry import KINDS

dns_tokens = noun(KINDS["dns_token"], verbs="list add set delete")


@dns_tokens.command("show", epilog=EPILOG)
@click.argument("name")
@json_option
@with_api
def show_one(api: Api, name: str, *, as_json: bool) -> None:
    """Show all of one DNS token, and when it was last used."""
    token, use = api.get("dns-tokens", name), api.get("dns-tokens", name, "use")
    show.item({**token, **(use if as_json else {key: show.moment(at) for key, at in use.items()})}, as_json=as_json)


@dns_tokens.command(epilog=EPILOG)
@click.argument("name")
@click.option("--client", metavar="CLIENT", help="The client that it identifies from now on.")
@json_option
@with_api
def mint(api: Api, name: str, client: str | None, *, as_json: bool) -> None:
    """Make a token with a random text, and print that, only this once."""
    _print(api.call("POST", "dns-tokens", name, "mint", body={"client": client}), as_json=as_json)


@dns_tokens.command(epilog=EPILOG)
@click.argument("name")
@click.option(
    "--overlap",
    callback=seconds,
    metavar="TIME",
    help="How long the text before stays good, such as 12h, by default 7d; 0s ends it at once, as where it has leaked.",
)
@json_option
@with_api
def rotate(api: Api, name: str, overlap: int | None, *, as_json: bool) -> None:
    """Give a token a new random text, and print that, only this once."""
    body = {} if overlap is None else {"overlap": overlap}
    _print(api.call("POST", "dns-tokens", name, "rotate", body=body), as_json=as_json)


def _print(made: JsonObject, *, as_json: bool) -> None:
    if as_json:
        show.item(made, as_json=True)
        return
    click.echo(made["token"])
    if made["previous_until"]:
        click.echo(f"the one before is good until {show.moment(made['previous_until'])}", err=True)
