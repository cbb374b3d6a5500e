"""/sessions: names of a service that name a session each, made by this node, which holds the clusters' keys.

A name is as good as a password for its session, so no log has one; nothing is stored.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import ClassVar

import structlog
from aiohttp import web
from pydantic import ConfigDict

from dnsvip.address.session import NUMBER_BYTES
from dnsvip.admin.http import bodies
from dnsvip.admin.http.auth import ACTOR, confirm, demand
from dnsvip.admin.http.operation import ROOT, Operation
from dnsvip.admin.http.queries import read_body
from dnsvip.admin.node import NODE
from dnsvip.errors import InvalidSite, Problem
from dnsvip.site import STRICT, Cluster, DnsName, SessionFrom
from dnsvip.site.rights import Action
from dnsvip.site.session_rules import WILDCARD, session_labels

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Session:
    """The service, a wildcard, that the session is of."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    service: DnsName


@dataclass(frozen=True, slots=True)
class Made:
    """The name of a session, and its service."""

    service: str
    name: str


async def create(request: web.Request) -> web.Response:
    """A name of a new session: whoever opens it comes to the same server, also after key rotations."""
    wanted = await read_body(request, "session", Session)
    await confirm(request)
    demand(request, Action.WRITE, "session", wanted.service)
    snapshot = request.app[NODE].snapshot()
    service = snapshot.site.services.get(wanted.service)
    cluster = snapshot.site.clusters.get(service.cluster or "") if service else None
    if service is None or service.session is not SessionFrom.LABEL or not isinstance(cluster, Cluster):
        what = f'{wanted.service!r} is no service with session = "label" (that this node has yet)'
        raise InvalidSite([Problem("session.service", what)])
    try:
        label = session_labels(snapshot, service, cluster).make(secrets.randbits(8 * NUMBER_BYTES))
    except ValueError as error:
        raise InvalidSite([Problem("session.service", f"cluster {cluster.name!r}: {error}")]) from None
    log.info("session name made", actor=request[ACTOR], service=service.name)
    made = {"service": service.name, "name": f"{label}.{service.name.removeprefix(WILDCARD)}"}
    return bodies.answer(made, status=201, headers={"Cache-Control": "no-store"})


ROUTES = [Operation("POST", f"{ROOT}/sessions", create, "session", body=Session, answer=Made, status=201)]
