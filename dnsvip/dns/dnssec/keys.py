"""The keys of a signed zone: what they sign, and the records that they are at the apex and at the parent.

Algorithms are ECDSA P-256 with SHA-256 (RFC 6605) and Ed25519 (RFC 8080), whose signatures are 64 bytes.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, derive_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from dnsvip.dns.dnssec.nsec3 import PARAMETERS
from dnsvip.dns.protocol.message import RRset, Type
from dnsvip.dns.protocol.names import Labels, flat_name
from dnsvip.site.choices import DnssecAlgorithm, DnssecDenial
from dnsvip.site.dns import Dnssec
from dnsvip.site.zone_keys import KEY_TTL, ZoneKey, listed, signs_data, signs_keys, wanted_at_parent

ZONE, SEP = 0x0100, 0x0101
"""Flags of a DNSKEY: that it is one of a zone, and that the parent's DS points to it too (RFC 4034 section 2.1.1)."""

DNSSEC = 3
"""The only protocol of a DNSKEY (RFC 4034 section 2.1.2)."""

SHA256_DIGEST = 2
"""The digest type of a DS (RFC 4509)."""

NUMBERS: Mapping[DnssecAlgorithm, int] = {DnssecAlgorithm.ECDSAP256SHA256: 13, DnssecAlgorithm.ED25519: 15}
"""Algorithm -> its number in records."""

KEY_TYPES = frozenset({Type.DNSKEY, Type.CDS, Type.CDNSKEY})
"""Types that are signed by the keys that the parent's DS points to (RFC 7344 section 4.1)."""

_DEFAULT = Dnssec()

Sign = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key: its DNSKEY data, key tag, and what signs with it."""

    algorithm: int
    dnskey: bytes
    tag: int
    sign: Sign = field(repr=False)

    @classmethod
    def of(cls, key: ZoneKey) -> SigningKey:
        """The key ready for use; raises ValueError for a secret that is none."""
        sign, public = _OPEN[key.algorithm](key.secret)
        number = NUMBERS[key.algorithm]
        dnskey = (SEP if key.sep else ZONE).to_bytes(2, "big") + bytes((DNSSEC, number)) + public
        return cls(number, dnskey, key_tag(dnskey), sign)

    def ds(self, apex: Labels) -> bytes:
        """The data of the DS record for the parent."""
        return ds_of(self.dnskey, apex)


@dataclass(frozen=True, slots=True, eq=False)
class ZoneKeys:
    """The keys of a zone. `keys` sign its sets, `for_keys` those of KEY_TYPES. `sets` are what the apex has because of
    them: DNSKEY, and for the parent CDS and CDNSKEY (RFC 7344). `signer` is the apex as RRSIG has it, `identity` what
    their signatures depend on."""

    apex: Labels
    keys: tuple[SigningKey, ...]
    for_keys: tuple[SigningKey, ...]
    sets: Mapping[int, RRset]
    signer: bytes
    identity: bytes

    @classmethod
    def of(cls, apex: Labels, held: Sequence[ZoneKey], dnssec: Dnssec = _DEFAULT) -> ZoneKeys:
        """The keys of the zone at `apex`; raises ValueError for a secret that is none. With NSEC3 the apex has its
        parameters, for secondaries that make such records (RFC 5155 section 4)."""
        opened = {key.number: SigningKey.of(key) for key in held}
        foreign = [dnskey_of(text) for text in dnssec.foreign]
        at_parent = [opened[key.number].dnskey for key in wanted_at_parent(held)]
        at_parent += [dnskey for dnskey in foreign if dnskey[:2] == SEP.to_bytes(2, "big")]
        data = {
            Type.DNSKEY: [*(opened[key.number].dnskey for key in listed(held)), *foreign],
            Type.CDNSKEY: at_parent,
            Type.CDS: [ds_of(dnskey, apex) for dnskey in at_parent],
        }
        sets = {
            int(rtype): RRset(apex, rtype, KEY_TTL, tuple((one,) for one in dict.fromkeys(some)))
            for rtype, some in data.items()
            if some
        }
        if dnssec.denial is DnssecDenial.NSEC3:
            sets[int(Type.NSEC3PARAM)] = RRset(apex, Type.NSEC3PARAM, 0, ((PARAMETERS,),))
        keys, for_keys = (tuple(opened[key.number] for key in some(held)) for some in (signs_data, signs_keys))
        signer = flat_name(apex)
        identity = (signer, *(key.dnskey for key in keys), b"/", *(key.dnskey for key in for_keys))
        return cls(apex, keys, for_keys, sets, signer, b"".join(identity))

    def signers(self, rtype: int) -> tuple[SigningKey, ...]:
        """The keys that sign sets of a type."""
        return self.for_keys if rtype in KEY_TYPES else self.keys


def dnskey_of(text: str) -> bytes:
    """The data of a DNSKEY by its text (`site.values.DnsKey`)."""
    flags, protocol, algorithm, key = text.split()
    return int(flags).to_bytes(2, "big") + bytes((int(protocol), int(algorithm))) + b64decode(key)


def ds_of(dnskey: bytes, apex: Labels) -> bytes:
    """The data of the DS of a DNSKEY (RFC 4034 section 5.1.4): key tag, algorithm, SHA-256 digest."""
    head = key_tag(dnskey).to_bytes(2, "big") + bytes((dnskey[3], SHA256_DIGEST))
    return head + sha256(flat_name(apex) + dnskey).digest()


def key_tag(dnskey: bytes) -> int:
    """The tag of a DNSKEY by its data (RFC 4034 appendix B)."""
    total = sum(dnskey[::2]) * 256 + sum(dnskey[1::2])
    return (total + (total >> 16)) & 0xFFFF


def ds_text(name: str, ds: bytes) -> str:
    """A DS record as a zone file of the parent has it, without a TTL; `name` without the final dot."""
    tag = int.from_bytes(ds[:2], "big")
    return f"{name.rstrip('.')}. IN DS {tag} {ds[2]} {ds[3]} {ds[4:].hex().upper()}"


def _p256(secret: bytes) -> tuple[Sign, bytes]:
    key = derive_private_key(int.from_bytes(secret, "big"), SECP256R1())
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    algorithm = ECDSA(SHA256())

    def sign(data: bytes) -> bytes:
        r, s = decode_dss_signature(key.sign(data, algorithm))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    return sign, point[1:]  # without the octet that says it is not compressed (RFC 6605 section 4)


def _ed25519(secret: bytes) -> tuple[Sign, bytes]:
    key = Ed25519PrivateKey.from_private_bytes(secret)
    return key.sign, key.public_key().public_bytes_raw()


_OPEN: Mapping[DnssecAlgorithm, Callable[[bytes], tuple[Sign, bytes]]] = {
    DnssecAlgorithm.ECDSAP256SHA256: _p256,
    DnssecAlgorithm.ED25519: _ed25519,
}
