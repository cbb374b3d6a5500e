"""The IPv6 addresses in DNS records: read, replaced, or left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dns.rdata
import dns.rdatatype
import dns.rdtypes.svcbbase
import dns.rrset

HINT = dns.rdtypes.svcbbase.ParamKey.IPV6HINT
WITH_ADDRESSES = frozenset({dns.rdatatype.A, dns.rdatatype.AAAA, dns.rdatatype.HTTPS, dns.rdatatype.SVCB})
"""Types whose records carry addresses."""


def addresses_in(rdata: Any) -> list[str]:
    """The IPv6 addresses in a record."""
    if rdata.rdtype == dns.rdatatype.AAAA:
        return [rdata.address]
    hint = getattr(rdata, "params", {}).get(HINT)
    return list(hint.addresses) if hint else []


def rewritten(rdata: Any, prove: Callable[[str], str]) -> dns.rdata.Rdata:
    """The record with other addresses: the hint of HTTPS and SVCB carries the same as AAAA (RFC 9460 section 7.3)."""
    new: dns.rdata.Rdata = rdata
    if rdata.rdtype == dns.rdatatype.AAAA:
        new = rdata.replace(address=prove(rdata.address))
    elif addresses := addresses_in(rdata):
        hint = dns.rdtypes.svcbbase.IPv6HintParam(  # type: ignore[no-untyped-call]
            [prove(address) for address in addresses]
        )
        new = rdata.replace(params={**rdata.params, HINT: hint})
    return new


def without_hint(rdata: Any) -> dns.rdata.Rdata:
    """The record without IPv6 addresses beside its target."""
    params = {key: value for key, value in getattr(rdata, "params", {}).items() if key != HINT}
    kept: dns.rdata.Rdata = rdata.replace(params=params) if hasattr(rdata, "params") else rdata
    return kept
