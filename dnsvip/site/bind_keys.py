"""Keys of zones in BIND's private format, as `dnssec-keygen` writes them: a `.private` and a `.key` file."""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field

from dnsvip.site.choices import DnssecAlgorithm
from dnsvip.site.zone_keys import SECRET_BYTES

_ALGORITHMS: Mapping[str, DnssecAlgorithm] = {
    "13": DnssecAlgorithm.ECDSAP256SHA256,
    "15": DnssecAlgorithm.ED25519,
}
_NUMBERS = {algorithm: number for number, algorithm in _ALGORITHMS.items()}
_FLAGS: Mapping[str, bool] = {"256": False, "257": True}
_PUBLIC_WORDS = 4
"""Words of a DNSKEY's data: flags, protocol, algorithm, key."""


@dataclass(frozen=True, slots=True)
class BindKey:
    """A private key, whether it has the flag SEP, and the public key that its `.key` file has."""

    algorithm: DnssecAlgorithm
    secret: bytes = field(repr=False)
    sep: bool
    public: bytes


def read_bind_key(private: str, public: str) -> BindKey:
    """The key of the texts of both files; raises ValueError, which names the file, the line and the right form, but
    never shows a secret."""
    algorithm, secret = read_private(private)
    flags, number, key = _dnskey(public)
    if number != _NUMBERS[algorithm]:
        raise ValueError(f".key: algorithm {number}, but .private has {_NUMBERS[algorithm]}: they are of two keys")
    return BindKey(algorithm, secret, _FLAGS[flags], key)


def read_private(private: str) -> tuple[DnssecAlgorithm, bytes]:
    """Algorithm and secret of a `.private` file; raises ValueError, as `read_bind_key`."""
    fields = dict(_fields(private))
    version = fields.get("Private-key-format", "")
    if not version.startswith("v1."):
        raise ValueError(".private: must begin with a line such as `Private-key-format: v1.3`")
    number = fields.get("Algorithm", "").split(" ")[0]
    if number not in _ALGORITHMS:
        raise ValueError(f".private: Algorithm: must be 13 (ECDSAP256SHA256) or 15 (ED25519), not {number[:20]!r}")
    if "PrivateKey" not in fields:
        raise ValueError(".private: has no line `PrivateKey: BASE64`; a key in a hardware module cannot be imported")
    secret = _base64(fields["PrivateKey"], ".private: PrivateKey")
    if len(secret) != SECRET_BYTES:
        raise ValueError(f".private: PrivateKey: must be {SECRET_BYTES} bytes in base64, not {len(secret)}")
    return _ALGORITHMS[number], secret


def _fields(text: str) -> list[tuple[str, str]]:
    pairs = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        name, colon, value = line.partition(":")
        if not colon:
            raise ValueError(f".private: line {number}: must be `NAME: VALUE`")
        pairs.append((name.strip(), value.strip()))
    return pairs


def _dnskey(text: str) -> tuple[str, str, bytes]:
    """Flags, algorithm and key of the one DNSKEY record in a `.key` file."""
    lines = [words for line in text.splitlines() if (words := line.partition(";")[0].split())]
    records = [words[words.index("DNSKEY") + 1 :] for words in lines if "DNSKEY" in words]
    form = ".key: must have one record such as `example.test. IN DNSKEY 257 3 13 BASE64`"
    if len(records) != 1 or len(records[0]) < _PUBLIC_WORDS or records[0][0] not in _FLAGS:
        raise ValueError(form)
    flags, _, number, *key = records[0]
    return flags, number, _base64("".join(key), ".key: DNSKEY")


def _base64(text: str, where: str) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{where}: must be base64") from None
