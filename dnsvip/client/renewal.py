"""What a client fetches anew of its enrolment: the DNS servers of its tier's group. It holds no key."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from dnsvip.client.enrolment import Enrolment, first_name
from dnsvip.errors import ClientError
from dnsvip.site import STRICT, DnsServer, Name
from dnsvip.site.plain import problem_of
from dnsvip.site.server_forms import is_encrypted

LABEL = "_enrolment"
"""The label before a service's name at which a client asks, with its key, for TXT."""


@dataclass(frozen=True, slots=True)
class Renewal:
    """The tier of a client, and its servers; none where it keeps those that it has."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    version: Literal[1]
    client: Name
    tier: Name
    servers: Annotated[tuple[DnsServer, ...], Field(max_length=16)] = ()


_ADAPTER: TypeAdapter[Renewal] = TypeAdapter(Renewal)


def name_to_ask(enrolment: Enrolment) -> str | None:
    """The name at which the renewal is; None for a client without a service, or with nothing to show who it is to
    somebody who it knows is the server."""
    service = first_name(enrolment.services)
    known = enrolment.tsig or any(map(is_encrypted, enrolment.asked_servers))
    return f"{LABEL}.{service}" if known and service else None


def parse_renewal(text: bytes, source: str) -> Renewal:
    """The renewal in a verified answer; raises ClientError."""
    try:
        return _ADAPTER.validate_python(json.loads(text))
    except ValidationError as error:
        problem = problem_of("", Renewal, error.errors()[0])
        raise ClientError(f"{source}: the renewal of the enrolment cannot be used: {problem}") from None
    except (ValueError, RecursionError):  # thousands of brackets are the latter
        raise ClientError(f"{source}: the renewal of the enrolment is not JSON") from None


def renewed(enrolment: Enrolment, renewal: Renewal) -> Enrolment:
    """The enrolment with what is new; itself where nothing is, or the renewal is another client's or names no server
    that can be queried."""
    new = replace(enrolment, servers=renewal.servers) if renewal.servers else enrolment
    if renewal.client != enrolment.client or not new.asked_servers:
        return enrolment
    return new if new != enrolment else enrolment
