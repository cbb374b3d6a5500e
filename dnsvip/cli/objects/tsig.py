"""`dnsvip tsig`: shared secrets of RFC 8945. A secret is write-only."""

from __future__ import annotations

import base64
import secrets
from pathlib import Path

import click

from dnsvip.cli.shared.api import EPILOG, Api, with_api
from dnsvip.cli.shared.nouns import create, noun
from dnsvip.cli.shared.parameters import Choice
from dnsvip.errors import ConfigError
from dnsvip.site.choices import TsigAlgorithm
from dnsvip.site.registry import KINDS

BYTES = 32

tsig = noun(KINDS["tsig"], verbs="list show set delete")


@tsig.command(epilog=EPILOG)
@click.argument("name")
@click.option(
    "--algorithm",
    type=Choice([algorithm.value for algorithm in TsigAlgorithm]),
    default=TsigAlgorithm.SHA256.value,
    show_default=True,
    help="Its MAC algorithm (RFC 8945).",
)
@click.option(
    "--secret-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with its secret in base64; else generated.",
)
@with_api
def add(api: Api, name: str, algorithm: str, secret_file: Path | None) -> None:
    """Create a key, and print it as nsupdate, dig -k and BIND read it, only this once."""
    try:
        secret = secret_file.read_text().strip() if secret_file else ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{secret_file}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    is_new = not secret
    secret = secret or base64.b64encode(secrets.token_bytes(BYTES)).decode()
    create(api, "tsig", name, {"algorithm": algorithm, "secret": secret})
    if is_new:
        click.echo(f'key "{name}" {{\n\talgorithm {algorithm};\n\tsecret "{secret}";\n}};')
    else:
        click.echo(f"TSIG key {name} made")
