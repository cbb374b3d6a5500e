"""/clients/NAME/enrolment: what a client needs to prove its identity, created by this node, which holds the keys.

The answer is a secret as a whole. It is a POST, so that no link, cache or history holds it; an audit row tells of it.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar

import structlog
from aiohttp import web
from pydantic import ConfigDict, Field, StrictBool

from dnsvip.admin.http import bodies
from dnsvip.admin.http.auth import ACTOR, CALLER
from dnsvip.admin.http.operation import ROOT, Operation
from dnsvip.admin.http.problems import Refusal
from dnsvip.admin.http.queries import read_body
from dnsvip.admin.http.resource import absent, name_of
from dnsvip.admin.http.slices import batch_of, in_slices
from dnsvip.admin.node import NODE
from dnsvip.admin.objects.clients import CLIENT
from dnsvip.admin.objects.dns_tokens import token_for
from dnsvip.client.enrol import Encryption, make_enrolment
from dnsvip.client.enrolment import ServerTrust, TokenText, dump
from dnsvip.errors import ClientError, InvalidSite, Problem
from dnsvip.site import STRICT, Client, DnsServer, Snapshot
from dnsvip.site.client_certificates import obstacle
from dnsvip.site.registry import COLLECTIONS
from dnsvip.site.rights import Action, Rights, fits_any
from dnsvip.store.access.audit import enrolled
from dnsvip.store.keys.certificates import DAYS, LONGEST_DAYS, LONGEST_REQUEST, key_of_request

PATIENCE = 2.0
STEP = 0.05
"""Seconds to wait until this node has the client as it is stored, and between two polls."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The DNS servers that the client queries, by default those of the DNS group of its tier; what encrypted ones are
    verified by (`trust`), the client's DNS token for them, or with `new_token` one that is made for it and is called as
    the client, and whether servers in plain text may stand in for them."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    servers: Annotated[tuple[DnsServer, ...], Field(max_length=16)] = ()
    trust: ServerTrust = ServerTrust()
    token: TokenText | None = field(default=None, repr=False)
    plaintext_fallback: bool = False
    new_token: StrictBool = False


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """A request for a certificate (PKCS #10, PEM), of which the key alone counts, and the days that it is good for."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    csr: Annotated[str, Field(max_length=LONGEST_REQUEST)]
    days: Annotated[int, Field(strict=True, ge=1, le=LONGEST_DAYS)] = DAYS


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """A client's certificate with that of the site's authority behind it, as PEM, and its end in unix seconds."""

    client: str
    certificate: str
    not_after: int


log = structlog.get_logger(__name__)


async def make(request: web.Request) -> web.Response:
    """The enrolment of a client with its current keys."""
    name = name_of(CLIENT, request)
    wanted = await read_body(request, "enrolment", Wanted)
    encryption = Encryption(wanted.trust, wanted.token, wanted.plaintext_fallback)
    snapshot = await _settled(request, name)
    try:
        enrolment = make_enrolment(await _within(snapshot, request[CALLER].rights), name, wanted.servers, encryption)
    except ClientError as error:
        raise InvalidSite([Problem(f"client.{name}", str(error))]) from None
    if wanted.new_token:
        enrolment = replace(enrolment, token=await token_for(request, name))
    generation = snapshot.site.clients[name].key_generation
    await request.app[NODE].store().audit.note(request[ACTOR], enrolled(name, generation, **enrolment.audited))
    log.info("enrolment made", actor=request[ACTOR], client=name)
    headers = {"Cache-Control": "no-store", "Content-Disposition": f'attachment; filename="{name}.enrolment.json"'}
    return bodies.answer(json.loads(dump(enrolment)), headers=headers)


async def certify(request: web.Request) -> web.Response:
    """Issue a certificate that identifies the client over encrypted DNS, for a key that the client made itself."""
    name = name_of(CLIENT, request)
    wanted = await read_body(request, "certificate", CertificateRequest)
    node = request.app[NODE]
    client = await node.store().objects.get("client", name)
    if not isinstance(client, Client):
        raise absent(CLIENT, name)
    if (why := obstacle(client)) is not None:
        raise InvalidSite([Problem(f"client.{name}", why)])
    key, authorities = key_of_request(wanted.csr), node.store().client_authorities
    issued = await authorities.sign(name, client.key_generation, key, request[ACTOR], node.now(), wanted.days)
    log.info("client certificate issued", actor=request[ACTOR], client=name, not_after=issued.not_after)
    made = {"client": name, "certificate": issued.certificate, "not_after": issued.not_after}
    return bodies.answer(made, status=201, headers={"Cache-Control": "no-store"})


async def _settled(request: web.Request, name: str) -> Snapshot:
    """This node's snapshot once it has the client as it is stored: an older one would give out an old key."""
    node = request.app[NODE]
    stored = await node.store().objects.get("client", name)
    if stored is None:
        raise absent(CLIENT, name)
    for _ in range(round(PATIENCE / STEP)):
        snapshot = node.snapshot()
        if snapshot.site.clients.get(name) == stored:
            return snapshot
        await asyncio.sleep(STEP)
    raise Refusal("unavailable", "This node has not applied the newest generation yet.", headers={"Retry-After": "2"})


async def _within(snapshot: Snapshot, rights: Rights) -> Snapshot:
    """The clusters, zones and services that the caller's scopes of enrolments reach, and all the rest."""
    site = snapshot.site
    kept: dict[str, Any] = {}
    for kind, things in (("cluster", site.clusters), ("zone", site.zones), ("service", site.services)):
        patterns = rights.patterns(Action.WRITE, kind, "enrolment")
        if patterns is not None:
            kept[COLLECTIONS[kind]] = {
                name: each
                async for batch in in_slices(things.items(), batch_of(patterns))
                for name, each in batch
                if fits_any(kind, name, patterns, rights.zones)
            }
    return replace(snapshot, site=replace(site, **kept)) if kept else snapshot


ROUTES = [
    Operation("POST", f"{ROOT}/clients/{{name}}/enrolment", make, "enrolment", body=Wanted),
    Operation(
        "POST",
        f"{ROOT}/clients/{{name}}/certificate",
        certify,
        "enrolment",
        body=CertificateRequest,
        answer=IssuedCertificate,
        status=201,
    ),
]
