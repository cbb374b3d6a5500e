"""Values as an operator writes them: names, addresses, endpoints, secrets. Each is checked as it is parsed."""

from __future__ import annotations

import binascii
import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Annotated, Any

from cryptography.x509 import load_pem_x509_certificates
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

NAME_PATTERN = r"^[A-Za-z0-9_]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9_])?$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
DNS_LABEL = re.compile(r"[a-z0-9_*/-]{1,63}")


def _checked_dns_name(text: str) -> str:
    name = text.lower().removesuffix(".")
    if len(name) > 253 or (name and not all(map(DNS_LABEL.fullmatch, name.split(".")))):
        raise ValueError(
            "must be labels of 1 to 63 letters, digits, - and _ (also * and /) joined by dots, 253 characters in all"
        )
    return name or "."


DnsName = Annotated[str, Field(min_length=1, max_length=254), AfterValidator(_checked_dns_name)]
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


def _checked_base64(text: str) -> str:
    try:
        binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("must be base64, as `tsig-keygen` writes it") from error
    return text


Base64 = Annotated[str, Field(min_length=4), AfterValidator(_checked_base64)]


def _checked_authorities(text: str) -> str:
    try:
        load_pem_x509_certificates(text.encode())
    except ValueError as error:
        raise ValueError("must be certificates in PEM form") from error
    return text


Authorities = Annotated[str, Field(max_length=65_536), AfterValidator(_checked_authorities)]
"""Certificates as PEM."""
