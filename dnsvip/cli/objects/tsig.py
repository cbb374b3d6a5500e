"""`dnsvip tsig`: shared secrets of RFC 8945. A secret is only written, never shown."""

from __future__ import annotations

import base64
import secrets
from pathlib import Path

import click

from dnsvip.cli.shared.api import EPILOG, Api, with_api
from dnsvip.cli.shared.nouns import create, noun
from dnsvip.errors import ConfigError

BYTES = 32

tsig = noun(
    "tsig",
    "TSIG key",
    {"NAME": lambda key: key["name"], "ALGORITHM": lambda key: key["algorithm"]},
    verbs="list show set delete",
    filters=[
        click.Option(["--algorithm"], help="Only those of this algorithm."),
        click.Option(["--client"], help="Only those that this client is known by."),
        click.Option(["--tier"], help="Only those that a client of this tier is known by."),
    ],
)


@tsig.command(epilog=EPILOG)
@click.argument("name")
@click.option("--algorithm", default="hmac-sha256", show_default=True, help="One of RFC 8945.")
@click.option(
    "--secret-file", type=click.Path(path_type=Path, dir_okay=False), help="Its secret, base64; else one is made."
)
@with_api
def add(api: Api, name: str, algorithm: str, secret_file: Path | None) -> None:
    """Make a key, and print it as nsupdate, dig -k and BIND take it: this once."""
    try:
        secret = secret_file.read_text().strip() if secret_file else ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{secret_file}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    made = not secret
    secret = secret or base64.b64encode(secrets.token_bytes(BYTES)).decode()
    create(api, "tsig", name, {"algorithm": algorithm, "secret": secret})
    if made:
        click.echo(f'key "{name}" {{\n\talgorithm {algorithm};\n\tsecret "{secret}";\n}};')
    else:
        click.echo(f"TSIG key {name} made")
