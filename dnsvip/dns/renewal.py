"""What a client fetches anew of its enrolment by DNS: TXT at `_enrolment.SERVICE`, asked for with its own TSIG key, or
over an encrypted transport with its certificate or token.

The answer holds its tier and the servers of its tier's DNS group, and no key: whoever has a copy of an old enrolment
gets no new key by it. For anybody else nothing is there.
"""

from __future__ import annotations

import json
from collections.abc import Container

from dnsvip.dns.identity.identify import Classifier, Requester
from dnsvip.dns.protocol.message import Query, Response, RRset, Type
from dnsvip.dns.protocol.names import Labels
from dnsvip.dns.refusals import Content
from dnsvip.dns.reply import DnsOutcome
from dnsvip.dns.zones.lookup import Owner
from dnsvip.dns.zones.places import LookupResult
from dnsvip.site import Client, Site
from dnsvip.site.dns_group_rules import group_of

LABEL = b"_enrolment"

LONGEST = 255
"""Bytes of one string of a TXT record."""


def renewal(
    query: Query, requester: Requester, classifier: Classifier, services: Container[Labels], site: Site
) -> Content | None:
    """The renewal that an enrolled client asks for; None where the question is another one, or its asker has not proved
    to be a client."""
    if query.qtype != Type.TXT or query.key[:1] != (LABEL,) or query.key[1:] not in services:
        return None
    who = classifier.strongly(requester)
    client = who.client if who else None
    if client is None:
        return None
    record = RRset(query.qname, Type.TXT, 0, ((strings(_document(client, site)),),))
    owner = Owner(LookupResult.ANSWER, query.key, Type.TXT)
    return Content(DnsOutcome.ENROLMENT, Response(aa=True, answer=(record,)), owner)


def _document(client: Client, site: Site) -> bytes:
    """JSON; without servers the client keeps its own."""
    group = group_of(site, client.tier)
    servers = list(group.servers) if group else []
    plain = {"version": 1, "client": client.name, "tier": client.tier, "servers": servers}
    return json.dumps(plain, separators=(",", ":")).encode()


def strings(text: bytes) -> bytes:
    """The data of a TXT record with a text (RFC 1035 section 3.3.14)."""
    pieces = [text[at : at + LONGEST] for at in range(0, len(text), LONGEST)]
    return b"".join(bytes([len(piece)]) + piece for piece in pieces)
