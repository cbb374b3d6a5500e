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
    """A question, but for its sender: its name in lower case as in a message, and its type."""

    name: bytes
    qtype: int


class Addressed(NamedTuple):
    """The addresses in the answer to one requester, those of the template's holes: who that is, the ECS option that
    came along (None: there was none), and with what each address is made anew in every slot (None: it stays)."""

    who: Classified
    ecs: Ecs | None
    vips: Sequence[Vip]
    recipes: Sequence[tuple[Issuer, Recipe] | None]


class Ahead(NamedTuple):
    """The answer to a message: the template for its question, None where it is the server's alone; and its
    addresses, None where the server makes the answer to such a requester."""

    asked: Asked
    template: Template | None
    addressed: Addressed | None


def is_portable(template: Template) -> bool:
    """Whether an answer is made of the template, the addresses and nothing else, and has all its records."""
    return not (template.truncated or template.sets or template.order or template.of_name)
