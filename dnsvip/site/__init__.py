"""The objects of a site as frozen values, and the Snapshot that every decision reads.

The shape of each class is the shape of its table in the site file and of its body in the HTTP API;
`dnsvip.site.plain` parses and dumps all three from these annotations, and each field carries its words
(`dnsvip.site.declare`). Nothing here does I/O; what must hold *between* objects is in `dnsvip.site.rules`.
"""

from dnsvip.site.choices import (
    Anonymous,
    CatalogRole,
    ClientState,
    DnssecAlgorithm,
    DnssecDenial,
    Excess,
    Fallback,
    Forward,
    Networks,
    NonceOf,
    OnExpired,
    OnInvalid,
    Over,
    Per,
    ServerState,
    SessionFrom,
    Step,
    Stickiness,
    TierAction,
)
from dnsvip.site.claims import Label, Source
from dnsvip.site.clients import MATCH_FORMS, OBJECT_STEPS, PLACE_FORMS, Classify, Client, Match, MatchEntry, Proof
from dnsvip.site.clusters import ClassCluster, Cluster
from dnsvip.site.dns import DnsGroup, Dnssec, DnsToken, Service, Transfer, TsigKey, UpdateRule, Zone
from dnsvip.site.quality import Policing, Rate
from dnsvip.site.routing import Evidence, SelectRule
from dnsvip.site.server_forms import DnsServer
from dnsvip.site.snapshot import Site, Snapshot
from dnsvip.site.traffic import MAX_POOLS, Check, Pool, Server, Tier
from dnsvip.site.values import (
    DNS_LABEL,
    NAME_PATTERN,
    STRICT,
    Address,
    Authorities,
    Base64,
    DnsName,
    Endpoint,
    Name,
    Network,
    Seconds,
    parse_endpoint,
)
from dnsvip.site.zone_keys import ZoneKey

__all__ = [
    "DNS_LABEL",
    "MATCH_FORMS",
    "MAX_POOLS",
    "NAME_PATTERN",
    "OBJECT_STEPS",
    "PLACE_FORMS",
    "STRICT",
    "Address",
    "Anonymous",
    "Authorities",
    "Base64",
    "CatalogRole",
    "Check",
    "ClassCluster",
    "Classify",
    "Client",
    "ClientState",
    "Cluster",
    "DnsGroup",
    "DnsName",
    "DnsServer",
    "DnsToken",
    "Dnssec",
    "DnssecAlgorithm",
    "DnssecDenial",
    "Endpoint",
    "Evidence",
    "Excess",
    "Fallback",
    "Forward",
    "Label",
    "Match",
    "MatchEntry",
    "Name",
    "Network",
    "Networks",
    "NonceOf",
    "OnExpired",
    "OnInvalid",
    "Over",
    "Per",
    "Policing",
    "Pool",
    "Proof",
    "Rate",
    "Seconds",
    "SelectRule",
    "Server",
    "ServerState",
    "Service",
    "SessionFrom",
    "Site",
    "Snapshot",
    "Source",
    "Step",
    "Stickiness",
    "Tier",
    "TierAction",
    "Transfer",
    "TsigKey",
    "UpdateRule",
    "Zone",
    "ZoneKey",
    "parse_endpoint",
]
