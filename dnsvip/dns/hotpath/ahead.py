"""What can be answered ahead of the server, in the kernel: templates that hold for a name, and what the addresses of a
requester are made of. The fast path is the one that decides both (`FastPath.ahead`); nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dnsvip.dns.hotpath.templates import Template
from dnsvip.dns.identity.identify import Classified, Ecs
from dnsvip.dns.synthesis.issuer import Issuer, Recipe, Vip


class Asked(NamedTuple):
    """A question, but for its sender: its name in lower case as in a message, its type, and whether it is for
    signatures, of a site that has any."""

    name: bytes
    qtype: int
    wants_signatures: bool = False


class Addressed(NamedTuple):
    """The addresses in the answer to one requester, those of the template's holes: who that is, the ECS option that
    came along (None: there was none), with what each address is made anew in every slot (None: it stays); and the data
    of the signatures of these addresses, as of now."""

    who: Classified
    ecs: Ecs | None
    vips: Sequence[Vip]
    recipes: Sequence[tuple[Issuer, Recipe] | None]
    signatures: Sequence[bytes] = ()


class Ahead(NamedTuple):
    """The answer to a message: the template for its question, None where it is the server's alone; its addresses, None
    where the server makes the answer to such a requester; and whether the name exists: strangers can make up others."""

    asked: Asked
    template: Template | None
    addressed: Addressed | None
    exists: bool = False


def is_portable(template: Template) -> bool:
    """Whether an answer is made of the template, the addresses and their signatures, and has all its records."""
    return not (template.truncated or template.of_name)
