"""The operator's side of an enrolment: derive it from a snapshot of the site."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from dnsvip.address.proof import client_key
from dnsvip.client.enrolment import EnrolledCluster, Enrolment, ProofKey, ServerTrust, TsigIdentity, problems_of
from dnsvip.errors import ClientError
from dnsvip.site import Anonymous, Client, ClientState, Cluster, Match, Site, Snapshot, Step
from dnsvip.site.dns_group_rules import group_of
from dnsvip.suggestion import did_you_mean


@dataclass(frozen=True, slots=True)
class Encryption:
    """What an enrolment says of encrypted servers: what they are verified by, the client's token, and whether servers
    in plain text may stand in for them."""

    trust: ServerTrust = ServerTrust()
    token: str | None = field(default=None, repr=False)
    plaintext_fallback: bool = False


ENCRYPTED = frozenset({Step.TLS, Step.TOKEN})
"""The steps that identify a client over encrypted transports, whatever its address."""


def make_enrolment(
    snapshot: Snapshot, name: str, servers: Sequence[str], encryption: Encryption = Encryption()
) -> Enrolment:
    """The enrolment of client `name` with its current keys, to query `servers`; without any, those of the DNS group of
    its tier.

    Raises ClientError for a client that is unknown or revoked, without servers, and where the site has no service name.
    """
    site = snapshot.site
    client = _enrollable(site, name)
    group = group_of(site, client.tier)
    servers = servers or (group.servers if group else ())
    if not servers:
        raise ClientError(
            "an enrolment needs at least one DNS server to query: name one as ADDRESS:PORT, or put tier"
            f" {client.tier!r} into a dns_group"
        )
    clusters = [cluster for cluster in site.clusters.values() if isinstance(cluster, Cluster)]
    enrolled = [_cluster(snapshot, client, cluster) for cluster in clusters]
    used = tuple(cluster for cluster in enrolled if cluster.services)
    if not site.services:
        raise ClientError("the site has no service name yet: there is nothing to enrol for")
    enrolment = Enrolment(
        client=client.name,
        id=client.id,
        servers=tuple(servers),
        clusters=used,
        services4=tuple(sorted(service.name for service in site.services.values() if service.cluster is None)),
        zones=_zones(site),
        tsig=_identity(site, client),
        token=encryption.token,
        trust=encryption.trust,
        plaintext_fallback=encryption.plaintext_fallback,
    )
    if encryption.token is not None and not _is_token_of(site, client, encryption.token):
        raise ClientError(
            f"the token identifies no client {name!r}: it needs a match {{ token = NAME }} by the name of the token"
        )
    if wrong := problems_of(enrolment):
        raise ClientError("; ".join(wrong))
    return enrolment


def cautions(snapshot: Snapshot, name: str) -> list[str]:
    """Warnings about the enrolment of client `name`: valid, but probably not what the operator wants."""
    site, client = snapshot.site, snapshot.site.clients[name]
    warnings = []
    if client.state is ClientState.DISABLED:
        warnings.append(f"client {name!r} is disabled: its addresses are rejected until it is enabled again")
    if _identity(site, client) is None and not any(match.step in ENCRYPTED for match in client.match):
        text = f"client {name!r} has no TSIG identity: DNS servers identify it only by its other matches"
        encoded = [c for c in site.clusters.values() if isinstance(c, Cluster) and c.anonymous is Anonymous.ENCODED]
        if encoded:
            text += (
                f"; cluster {encoded[0].name!r} gives unknown clients encoded addresses too: where this"
                " client is not identified, it proves such an address in vain"
            )
        warnings.append(f"{text}; add a match by tsig")
    if client.proof.single_use and client.proof.bind.value != "address+port":
        warnings.append(
            f"client {name!r} is single use with bind = {client.proof.bind.value!r}: about one connection"
            ' per slot to each service; use bind = "address+port" for more'
        )
    return warnings


def unused(enrolment: Enrolment) -> list[str]:
    """Warnings about servers that an enrolment carries and that the client application does not ask."""
    others = [server for server in enrolment.servers if server not in enrolment.asked_servers]
    if not others:
        return []
    why = "it is behind an encrypted server" if enrolment.tsig or not enrolment.token else "a token is not for it"
    return [f"{', '.join(others)} is not asked in plain text: {why}, and the enrolment has no plaintext fallback"]


def _enrollable(site: Site, name: str) -> Client:
    client = site.clients.get(name)
    if client is None:
        some = ", ".join(sorted(site.clients)[:8]) or "none"
        meant = did_you_mean(name, site.clients)
        raise ClientError(f"client {name!r} is not a client of this site{meant} (there is: {some})")
    if client.state is ClientState.REVOKED:
        raise ClientError(f"client {name!r} is revoked: run `dnsvip clients enable {name}` before enrolling it anew")
    return client


def _is_token_of(site: Site, client: Client, token: str) -> bool:
    """Whether a token's text identifies a client."""
    digest = sha256(token.encode()).hexdigest()
    names = [held.name for held in site.dns_tokens.values() if digest in (held.digest, held.previous)]
    return any(Match(Step.TOKEN, name) in client.match for name in names)


def _cluster(snapshot: Snapshot, client: Client, cluster: Cluster) -> EnrolledCluster:
    services = (service.name for service in snapshot.site.services.values() if service.cluster == cluster.name)
    return EnrolledCluster(
        name=cluster.name,
        prefix=cluster.prefix,
        plain=cluster.plain,
        layout=cluster.layout,
        tag_bits=cluster.tag_bits,
        slot_seconds=cluster.slot_seconds,
        services=tuple(sorted(services)),
        proof=_proof(snapshot, client, cluster),
        claims=cluster.claims,
        values={name: cluster.values[name] for name in cluster.claimed if name in cluster.values},
        label=cluster.label,
        source=cluster.source is not None,
    )


def _proof(snapshot: Snapshot, client: Client, cluster: Cluster) -> ProofKey | None:
    layout = cluster.address_layout
    if not layout.bits("client"):
        return None  # the dispatcher derives the key from the client in the address
    master = snapshot.masters.get(cluster.name)
    if master is None:
        raise ClientError(f"cluster {cluster.name!r} has no client master key yet: start a node of the site once")
    key = client_key(master, layout, client.id, client.key_generation)
    return ProofKey(key, client.proof.bind, client.proof.single_use, client.key_generation)


def _zones(site: Site) -> tuple[str, ...]:
    return tuple(
        sorted(
            zone
            for zone in site.zones
            if any(name == zone or name.endswith(f".{zone}") or zone == "." for name in site.services)
        )
    )


def _identity(site: Site, client: Client) -> TsigIdentity | None:
    if Step.TSIG not in site.classify.order:
        return None
    names = (match.value for match in client.match if match.step is Step.TSIG)
    key = next((site.tsig_keys[name] for name in names if name in site.tsig_keys), None)
    return TsigIdentity(key.name, key.algorithm, key.secret) if key else None
