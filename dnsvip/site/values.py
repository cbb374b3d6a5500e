"""Values as an operator writes them: names, addresses, endpoints, secrets. Each is checked as it is parsed."""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Annotated, Any

from dns import rdatatype
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from dnsvip.address.mac import KEY_BYTES

NAME_PATTERN = r"^[A-Za-z0-9_]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9_])?$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
DNS_LABEL = re.compile(r"[a-z0-9_*/-]{1,63}")


def checked_dns_name(text: str) -> str:
    """A DNS name in lower case without its last dot; raises ValueError."""
    name = text.lower().removesuffix(".")
    if len(name) > 253 or (name and not all(map(DNS_LABEL.fullmatch, name.split(".")))):
        raise ValueError(
            "must be labels of 1 to 63 letters, digits, - and _ (also * and /) joined by dots, 253 characters in all"
        )
    return name or "."


DnsName = Annotated[str, Field(min_length=1, max_length=254), AfterValidator(checked_dns_name)]


def _checked_pattern(text: str) -> str:
    name = checked_dns_name(text)
    labels = name.split(".")
    if any(label == "*" for label in labels[1:-1]) or (len(labels) > 1 and labels[0] == labels[-1] == "*"):
        raise ValueError('must have * as its first label or its last only: "*.dyn.example.test", "_acme-challenge.*"')
    return name


NamePattern = Annotated[str, Field(min_length=1, max_length=254), AfterValidator(_checked_pattern)]
"""Names of DNS: one, or with `*` as its first or last label all that have one label or more in its place."""


def _checked_type(text: str) -> str:
    try:
        rtype = rdatatype.from_text(text)
    except (rdatatype.UnknownRdatatype, ValueError):
        raise ValueError(f"{text[:40]!r} is not a type of records; write TXT, A, TYPE65280 or the like") from None
    if rtype == 0 or rdatatype.is_metatype(rtype):
        raise ValueError(f"{text[:40]!r} is no type of data")
    return rdatatype.to_text(rtype)


RecordType = Annotated[str, Field(min_length=1, max_length=16), AfterValidator(_checked_type)]
"""The mnemonic of a type of records."""

Port = Annotated[int, Field(strict=True, ge=1, le=65535)]
Seconds = Annotated[int, Field(strict=True, ge=1, le=31_536_000)]


def _address_text(value: Any) -> Any:
    """An address from text; `ip_address` alone would accept numbers too."""
    return value if isinstance(value, IPv4Address | IPv6Address) else ip_address(_text(value))


def _network_text(value: Any) -> Any:
    return value if isinstance(value, IPv4Network | IPv6Network) else ip_network(_text(value))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a string")
    return value


Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network_text)]
Address = Annotated[IPv4Address | IPv6Address, BeforeValidator(_address_text)]

STRICT = ConfigDict(extra="forbid")


def parse_endpoint(text: str) -> tuple[str, int]:
    """Address and port of "192.0.2.1:53" or "[2001:db8::1]:53"; raises ValueError."""
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("must be ADDRESS:PORT, an IPv6 address in brackets: [2001:db8::1]:53")
    if not port.isdigit() or not 0 <= int(port) <= 65535:
        raise ValueError("must end in :PORT, 0 to 65535")
    return str(ip_address(host)), int(port)


def _checked_endpoint(text: str) -> str:
    parse_endpoint(text)
    return text


Endpoint = Annotated[str, AfterValidator(_checked_endpoint)]


def _checked_target(text: str) -> str:
    if not parse_endpoint(text)[1]:
        raise ValueError("must end in :PORT, 1 to 65535")
    return text


Target = Annotated[str, Field(max_length=64), AfterValidator(_checked_target)]
"""A server that is sent to, as "192.0.2.1:53"."""

TLS = "tls://"
"""What the form of a DNS server over TLS (RFC 7858) begins with: tls://[2001:db8::1]:853#dns.example.test."""


FINGERPRINT = "sha256:"
"""What the fingerprint of a certificate begins with where names are compared."""


def certificate_name(text: str) -> str:
    """A name that a client certificate bears, as such names are compared: in lower case; "sha256:" and 64 hexadecimal
    digits for its fingerprint. Raises ValueError."""
    name = text.lower()
    if name.startswith("cn=") and "," not in name:
        name = name.removeprefix("cn=")
    if name.startswith(FINGERPRINT):
        name = FINGERPRINT + name.removeprefix(FINGERPRINT).replace(":", "")
        if not re.fullmatch(f"{FINGERPRINT}[0-9a-f]{{64}}", name):
            raise ValueError('must be a name in the certificate, or "sha256:" and 64 hexadecimal digits')
    return name


def _checked_base64(text: str) -> str:
    try:
        binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("must be base64, as `tsig-keygen` writes it") from error
    return text


LONGEST_VALUE, MOST_ATTRIBUTES = 1024, 256
"""Characters of a match, an attribute and a secret, and attributes of an object: each change of one is kept in the
audit."""

CertificateName = Annotated[str, Field(min_length=1, max_length=LONGEST_VALUE), AfterValidator(certificate_name)]

Base64 = Annotated[str, Field(min_length=4, max_length=LONGEST_VALUE), AfterValidator(_checked_base64)]


def _checked_dnskey(text: str) -> str:
    """The text of a DNSKEY with one space between its words."""
    words = text.split()
    form = 'must be the data of a DNSKEY record, such as "256 3 13 BASE64"'
    if len(words) < DNSKEY_WORDS or words[1] != "3" or words[0] not in ("256", "257") or not words[2].isdecimal():
        raise ValueError(form)
    try:
        key = binascii.a2b_base64("".join(words[3:]), strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(form) from error
    if not key or int(words[2]) > MOST_ALGORITHM:
        raise ValueError(form)
    return f"{words[0]} 3 {int(words[2])} {''.join(words[3:])}"


DNSKEY_WORDS, MOST_ALGORITHM = 4, 255
"""Flags, protocol, algorithm and key; the largest number of an algorithm (RFC 4034 section 2.1)."""

DnsKey = Annotated[str, Field(max_length=LONGEST_VALUE), AfterValidator(_checked_dnskey)]


def _checked_attributes(values: Mapping[str, str | int]) -> Mapping[str, str | int]:
    if len(values) > MOST_ATTRIBUTES:
        raise ValueError(f"must be at most {MOST_ATTRIBUTES} attributes (there are {len(values)})")
    for name, value in values.items():
        if len(name) > LONGEST_VALUE or (isinstance(value, str) and len(value) > LONGEST_VALUE):
            raise ValueError(f"{name[:40]}: name and value must have at most {LONGEST_VALUE} characters each")
    return values


AttributeWords = Annotated[
    Mapping[str, str | int],
    AfterValidator(_checked_attributes),
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": {"anyOf": [{"type": "string", "maxLength": LONGEST_VALUE}, {"type": "integer"}]},
        }
    ),
]
"""Attributes by name, each a word or a number."""


def _checked_authorities(text: str) -> str:
    from cryptography.x509 import load_pem_x509_certificates  # noqa: PLC0415 - slow to load and rarely needed

    try:
        load_pem_x509_certificates(text.encode())
    except ValueError as error:
        raise ValueError("must be certificates in PEM form") from error
    return text


Authorities = Annotated[str, Field(max_length=65_536), AfterValidator(_checked_authorities)]
"""Certificates as PEM."""


def _key_bytes(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        key = bytes.fromhex(value)
    except ValueError:
        raise ValueError("must be hexadecimal") from None
    if len(key) != KEY_BYTES:
        raise ValueError(f"must be {KEY_BYTES} bytes, {2 * KEY_BYTES} hexadecimal digits")
    return key


HexKey = Annotated[bytes, BeforeValidator(_key_bytes), PlainSerializer(bytes.hex)]
"""A key of 16 bytes, in documents as hexadecimal digits."""


DIGEST = re.compile(r"[0-9a-f]{64}")


def _checked_digest(text: str) -> str:
    digest = text.lower()
    if not DIGEST.fullmatch(digest):
        raise ValueError("must be a SHA-256 digest, 64 hexadecimal digits, as `dnsvip dns-tokens show NAME` prints it")
    return digest


Digest = Annotated[str, Field(max_length=64), AfterValidator(_checked_digest)]
"""A SHA-256 digest in hexadecimal digits."""

Moment = Annotated[int, Field(strict=True, ge=0, lt=1 << 40)]
"""A time in unix seconds."""
