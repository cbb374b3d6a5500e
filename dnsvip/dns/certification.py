"""A client certificate asked for by DNS: TXT at `KEY._certificate.SERVICE`, over an encrypted transport, by a client
that says who it is with its present certificate or its TSIG key. A DNS token is not enough: in the server's name it can
be read on the way, and whoever did so would have a certificate that outlives it.

KEY is a P-256 point, compressed (SEC 1 section 2.3.3), in base32 without padding: one label. The answer holds the
certificate and that of its authority, each as DER in base64 with a comma between them. The key that signs is the node's
business: the reply waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass

from dnsvip.dns.identity.identify import Classifier, Requester
from dnsvip.dns.protocol.message import Query, Rcode, Response, RRset, Type
from dnsvip.dns.protocol.names import Labels
from dnsvip.dns.refusals import Content
from dnsvip.dns.renewal import strings
from dnsvip.dns.reply import DnsOutcome, Reply
from dnsvip.dns.zones.lookup import Owner
from dnsvip.dns.zones.places import LookupResult
from dnsvip.site import Client, Step

LABEL = b"_certificate"

PROOFS = frozenset({Step.TSIG, Step.TLS})
"""By what a client must have been identified."""


@dataclass(frozen=True, slots=True)
class PendingCertificate:
    """A certificate that the store is to issue for `client`: the reply that it is in has no bytes yet. `key` is the
    label, `source` the address that asks. `finish` makes the reply of an rcode, and of the text of the answer."""

    client: Client
    key: str
    source: str
    finish: Callable[[int, str], Reply]


def asked_for(
    query: Query, requester: Requester, classifier: Classifier, services: Container[Labels]
) -> tuple[Client, str] | None:
    """Who asks for a certificate, and for which key; None where the question is another one, or its asker may have
    none."""
    if query.qtype != Type.TXT or query.key[1:2] != (LABEL,) or query.key[2:] not in services:
        return None
    identity = classifier.strongly(requester) if requester.transport.encrypted else None
    if identity is None or identity.client is None or identity.step not in PROOFS:
        return None
    return identity.client, query.key[0].decode(errors="replace")


def issued(query: Query, rcode: int, text: str) -> Content:
    """The response with a certificate, or with why there is none."""
    if rcode != Rcode.NOERROR:
        return Content(DnsOutcome.ENROLMENT, Response(rcode), why=text)
    record = RRset(query.qname, Type.TXT, 0, ((strings(text.encode()),),))
    return Content(
        DnsOutcome.ENROLMENT, Response(aa=True, answer=(record,)), Owner(LookupResult.ANSWER, query.key, Type.TXT)
    )
