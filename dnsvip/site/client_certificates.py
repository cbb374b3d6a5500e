"""What a certificate of the site's own authority says of a client: its name, and the generation of its key.

The name stands as common name, which `match = [{ tls = NAME }]` compares, and with the generation as a URI, so that a
certificate is void once the client gets a new key, is deleted or gives its name to another. Certificates are compared
in lower case and names of clients are not, so the URI has a mark before each capital. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from dnsvip.site.choices import ClientState, Step
from dnsvip.site.clients import Client, Match

SCHEME = "dnsvip:"
"""What the URI begins with; no other authority has a reason to write one, and by it identifies no more."""

CAPITAL = "~"
"""What a URI has before a letter that is a capital in the client's name, where no name has it."""

_GENERATION = "?generation="
_DIGITS = 20


class Bound(NamedTuple):
    """The client that a certificate was issued to (its name as `marked`), and the generation of its key then."""

    client: str
    key_generation: int


def marked(client: str) -> str:
    """The name of a client in lower case, as that of no other client is."""
    return "".join(f"{CAPITAL}{letter.lower()}" if letter.isupper() else letter for letter in client)


def uri_of(client: str, key_generation: int) -> str:
    """The URI of a client in its certificate; no name has a character that would have to be quoted there."""
    return f"{SCHEME}{marked(client)}{_GENERATION}{key_generation}"


def obstacle(client: Client) -> str | None:
    """Why a client can have no certificate that identifies it; None where it can."""
    if client.state is not ClientState.ENABLED:
        return f"client {client.name!r} is {client.state.value}: enable it before it gets a certificate"
    if Match(Step.TLS, client.name.lower()) not in client.match:
        return f'no certificate would identify client {client.name!r}: give it the match {{ tls = "{client.name}" }}'
    return None


def bound_in(names: Iterable[str]) -> Bound | None:
    """Whom the names of a verified certificate (lower case) bind it to; None where they bind it to nobody."""
    for name in names:
        if name.startswith(SCHEME):
            client, mark, generation = name.removeprefix(SCHEME).partition(_GENERATION)
            short = generation.isascii() and generation.isdecimal() and len(generation) <= _DIGITS
            number = int(generation) if mark and short else -1
            return Bound(client, number)
    return None
