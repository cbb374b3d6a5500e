"""What DNS serves: zones, services; and what clients and peers are known by: TSIG keys, DNS tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from dnsvip.site.choices import CatalogRole, DnssecAlgorithm, DnssecDenial, SessionFrom, TsigAlgorithm
from dnsvip.site.declare import About
from dnsvip.site.server_forms import DnsServer, Primary
from dnsvip.site.values import (
    STRICT,
    AttributeWords,
    Authorities,
    Base64,
    CertificateName,
    Digest,
    DnsKey,
    DnsName,
    Moment,
    Name,
    NamePattern,
    Network,
    RecordType,
    Target,
)

MOST_RULES, MOST_PATTERNS = 256, 64
"""Update rules of a zone, and names or types of one: all are compared with every record of an update."""

LEAST_ZSK_DAYS = 15
"""Days that a zone signing key is in use at least where it is rolled by schedule."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """Who may transfer a zone (AXFR, IXFR): a secondary in one of `to` that signs with `tsig` and shows one of
    `certificates`; all of these that are given."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    to: Annotated[
        tuple[Network, ...], About("Networks", "Networks that secondaries transfer the zone from.", most=1024)
    ] = ()
    tsig: Annotated[
        DnsName | None, About("TSIG key", "Key that secondaries sign their requests with.", refers="tsig")
    ] = None
    signed: Annotated[
        bool,
        About(
            "Signed",
            "Transfer the zone with its signatures and a chain of NSEC, for secondaries that validating resolvers ask; "
            "always as a whole.",
        ),
    ] = False
    tls: Annotated[
        bool, About("TLS only", "Whether the zone is transferred over TLS (RFC 9103) and QUIC (RFC 9250) alone.")
    ] = False
    certificates: Annotated[
        tuple[CertificateName, ...],
        About(
            "Certificates",
            "Names in client certificates, or sha256: and their fingerprints, one of which secondaries show.",
            most=1024,
        ),
    ] = ()


@dataclass(frozen=True, slots=True)
class UpdateRule:
    """What one key may change of a zone by dynamic update (RFC 2136, RFC 3007): records of `types` at `names`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    tsig: Annotated[DnsName, About("TSIG key", "Key that signs the updates.", refers="tsig")]
    names: Annotated[
        tuple[NamePattern, ...],
        Field(max_length=MOST_PATTERNS),
        About(
            "Names",
            'Names that it may change, absolute; "*" as the first or last label stands for one label or more, as in '
            '"_acme-challenge.*". Without any it may change all of the zone.',
        ),
    ] = ()
    types: Annotated[
        tuple[RecordType, ...],
        Field(max_length=MOST_PATTERNS),
        About("Types", "Types of records that it may change; without any all."),
    ] = ()


@dataclass(frozen=True, slots=True)
class Dnssec:
    """How a zone is signed (RFC 4033): online, as answers are made, with keys that the site makes and keeps."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    enabled: Annotated[
        bool,
        About(
            "Enabled",
            "Sign the zone's answers. Keys are made when it is first true, and kept until the zone is removed.",
        ),
    ] = False
    algorithm: Annotated[
        DnssecAlgorithm,
        About("Algorithm", "Algorithm of the zone's keys; keys of another one take over by a rollover."),
    ] = DnssecAlgorithm.ECDSAP256SHA256
    denial: Annotated[
        DnssecDenial,
        About("Denial", "How the zone proves that it has no such name or type; it may change at any time."),
    ] = DnssecDenial.COMPACT
    split: Annotated[
        bool,
        About(
            "Two keys",
            "A zone signing key signs the zone, and the key of the DS record only the keys; without it one signs all.",
        ),
    ] = False
    zsk_days: Annotated[
        int | None,
        Field(ge=LEAST_ZSK_DAYS, le=3650),
        About("Days of a zone signing key", "Days after which a new one takes its place; without it when asked to."),
    ] = None
    foreign: Annotated[
        tuple[DnsKey, ...],
        Field(max_length=16),
        About(
            "Foreign keys",
            "Keys of other signers of the zone (RFC 8901, model 2), each as in a DNSKEY record: published, and in CDS "
            "and CDNSKEY where it has the flag SEP.",
        ),
    ] = ()
    parental_agents: Annotated[
        tuple[Target, ...],
        Field(max_length=16),
        About(
            "Parental agents",
            "Servers of the parent, each ADDRESS:PORT: a rollover goes on once all of them have the zone's new DS "
            "records and no others (RFC 7344 section 6); without them when an operator confirms it.",
        ),
    ] = ()


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone as the text of its zone file (RFC 1035 section 5)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: Annotated[DnsName, About("Name", "Name of the zone's apex.", listed=1)]
    text: Annotated[
        str,
        About(
            "Zone text",
            "The zone file (RFC 1035 section 5); of a zone with primaries what they have, which nobody else sets.",
            media="text/dns",
        ),
    ] = field(default="", repr=False)
    transfer: Annotated[
        Transfer | None, About("Transfer", "Who may transfer the whole zone (AXFR); without it nobody.")
    ] = None
    primaries: Annotated[
        tuple[Primary, ...],
        Field(max_length=8),
        About(
            "Primaries",
            "Servers that the zone is transferred from, in the order of use, each ADDRESS:PORT, or "
            "tls://ADDRESS:PORT#NAME over TLS (RFC 9103). It is then a secondary zone, and has no file.",
        ),
    ] = ()
    primaries_tsig: Annotated[
        DnsName | None,
        About(
            "TSIG key of primaries",
            "Key that requests to the primaries are signed with, and NOTIFY of theirs must be.",
            refers="tsig",
        ),
    ] = None
    primaries_ca: Annotated[
        Authorities | None,
        About("Authorities of primaries", "Certificates that those of primaries over TLS are verified by, as PEM."),
    ] = None
    notify: Annotated[
        tuple[Target, ...],
        Field(max_length=64),
        About(
            "Notify", "Secondaries that are told of changes (NOTIFY, RFC 1996), each ADDRESS:PORT; signed as transfers."
        ),
    ] = ()
    notify_ns: Annotated[
        bool,
        About(
            "Notify name servers",
            "Where the zone may be transferred, tell its name servers (NS) too, but the one in the SOA.",
        ),
    ] = True
    update: Annotated[
        tuple[UpdateRule, ...],
        Field(max_length=MOST_RULES),
        About("Dynamic update", "Keys that may change the zone by dynamic update (RFC 2136), and what of it."),
    ] = ()
    catalog: Annotated[
        CatalogRole | None,
        About(
            "Catalog",
            "What the zone is a catalog for (RFC 9432): secondaries that have it have all zones that it names.",
        ),
    ] = None
    member_of: Annotated[
        DnsName | None,
        About("Member of", "Catalog zone that named this one, which comes and goes with it; the node sets it."),
    ] = None
    zonemd: Annotated[
        bool,
        About(
            "Digest",
            "Add a digest of the whole zone (ZONEMD, RFC 8976), by which secondaries verify it; changes are then "
            "transferred as the whole zone.",
        ),
    ] = False
    dnssec: Annotated[Dnssec | None, About("DNSSEC", "How the zone is signed; without it, it is not.")] = None

    @property
    def tsig_keys(self) -> frozenset[str]:
        """The TSIG keys by which it is transferred or changed."""
        transfers = self.transfer.tsig if self.transfer else None, self.primaries_tsig
        return frozenset([*filter(None, transfers), *(rule.tsig for rule in self.update)])

    @property
    def targets(self) -> tuple[str, ...]:
        """The servers that nodes send to because of it."""
        return (*self.primaries, *self.notify, *(self.dnssec.parental_agents if self.dnssec else ()))

    @property
    def is_secondary(self) -> bool:
        """Whether it is transferred from elsewhere."""
        return bool(self.primaries)

    @property
    def is_derived(self) -> bool:
        """Whether its text comes from elsewhere: from primaries, or as a catalog from the site."""
        return self.is_secondary or self.catalog is CatalogRole.PRODUCE

    @property
    def sends_signed(self) -> bool:
        """Whether transfers of it have the signatures that are made here."""
        return self.is_signed and self.transfer is not None and self.transfer.signed

    @property
    def is_signed(self) -> bool:
        """Whether its answers are signed."""
        return self.dnssec is not None and self.dnssec.enabled


@dataclass(frozen=True, slots=True)
class Service:
    """A name whose AAAA records, and A records and HTTPS hints, are synthesized per client."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: Annotated[DnsName, About("Name", "Name of the service, inside one of the zones.", listed=1)]
    cluster: Annotated[
        Name | None,
        About(
            "Cluster",
            "IPv6 cluster of the service's addresses; without it there is no AAAA record, only A of an IPv4 cluster.",
            listed=2,
            filtered=True,
            refers="cluster",
        ),
    ] = None
    cluster4: Annotated[
        Name | None,
        About(
            "IPv4 cluster",
            "IPv4 cluster of the service's addresses; without it there is no A record.",
            listed=3,
            refers="cluster",
        ),
    ] = None
    attributes: Annotated[
        AttributeWords,
        About(
            "Attributes",
            "What is asked for here, as attributes of the cluster's layout: sealed into the addresses of this service, "
            "in place of the client's own.",
        ),
    ] = field(default_factory=dict)
    session: Annotated[
        SessionFrom | None,
        About(
            "Session",
            "What names the session of a requester. Of a wildcard, the names below it may: whoever asks for one comes "
            "to the same server of a pool that is sticky by session.",
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class DnsGroup:
    """The DNS servers that the clients of some tiers query."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: Annotated[Name, About("Name", "Name of the group, which the node files' listeners refer to.", listed=1)]
    servers: Annotated[
        tuple[DnsServer, ...],
        Field(min_length=1, max_length=16),
        About(
            "Servers",
            "DNS servers of the group in the order of use, each ADDRESS:PORT, or encrypted as tls://ADDRESS:PORT#NAME, "
            "https:// or h3://ADDRESS:PORT/dns-query#NAME or quic://ADDRESS:PORT#NAME; they are in the enrolments of "
            "the clients.",
            listed=3,
        ),
    ]
    tiers: Annotated[
        tuple[Name, ...],
        Field(max_length=256),
        About(
            "Tiers", "Tiers whose clients query these servers; a tier is in one group at most.", listed=2, refers="tier"
        ),
    ] = ()


@dataclass(frozen=True, slots=True)
class TsigKey:
    """A shared secret of RFC 8945."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: Annotated[DnsName, About("Name", "Name of the key, as both sides configure it.", listed=1)]
    secret: Annotated[Base64, About("Secret", "The shared secret in base64; it is never shown.", secret=True)] = field(
        repr=False
    )
    algorithm: Annotated[TsigAlgorithm, About("Algorithm", "MAC algorithm of the key.", listed=2, filtered=True)] = (
        TsigAlgorithm.SHA256
    )


@dataclass(frozen=True, slots=True)
class DnsToken:
    """A bearer token that identifies a client over encrypted DNS, by the digests of its text: two while it is
    replaced."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: Annotated[Name, About("Name", "Name of the token, which the matches of clients refer to.", listed=1)]
    digest: Annotated[
        Digest, About("Digest", "SHA-256 of the token's text in lower case; the text itself is kept nowhere.")
    ]
    previous: Annotated[
        Digest | None, About("Previous digest", "SHA-256 of the text before, which is good beside the new one.")
    ] = None
    previous_until: Annotated[
        Moment | None,
        About(
            "Previous until",
            "When the previous text ends, in unix seconds; without it when its digest is removed.",
            listed=2,
        ),
    ] = None
