"""The rules of a pool: its servers, its health check, its chain of fallbacks."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dnsvip.errors import Problem
from dnsvip.site import MAX_POOLS, Check, Forward, Pool, Site
from dnsvip.site.rule_parts import refers, repeated

OWN_HOST = r"https?://(\[\{address\}\]|\{address\})(:[0-9]{1,5})?([/?#]|$)"
"""How the URL of a health check begins: its host is the address of the server that is checked."""


def check_pool(where: str, pool: Pool, site: Site) -> Iterator[Problem]:
    """The problems of a pool among the others of `site`."""
    for seen in repeated(server.name for server in pool.servers):
        yield Problem(f"{where}.servers", f"two servers are called {seen!r}")
    for address in repeated(server.address for server in pool.servers):
        yield Problem(f"{where}.servers", f"two servers have the address {address}")
    for server in pool.servers:
        if getattr(server.address, "scope_id", None) is not None:
            text = (
                f"{server.name!r} has the address {server.address}: a zone (%) names an interface of one machine only"
            )
            yield Problem(f"{where}.servers", f"{text}; take an address without one")
    if pool.check is not None:
        yield from _check_check(f"{where}.check", pool.check)
    if pool.forward is Forward.ENCAP and any(server.address.version == 4 for server in pool.servers):
        yield Problem(f"{where}.servers", "forward = 'encap' needs servers with IPv6 addresses")
    if pool.fallback is not None:
        yield from refers(f"{where}.fallback", "pool", pool.fallback, site.pools)
        yield from _check_fallback(where, pool, site)


def lacks_ipv4(pool: Pool | None, site: Site) -> bool:
    """Whether the servers of a pool cannot take IPv4, nor those of any that it falls back to: under nat all of them
    have IPv6 addresses."""
    for _ in range(MAX_POOLS):
        if pool is None:
            return True
        if pool.forward is not Forward.NAT or not pool.servers or any(s.address.version == 4 for s in pool.servers):
            return False
        pool = site.pools.get(pool.fallback or "")
    return True


def _check_check(where: str, check: Check) -> Iterator[Problem]:
    if check.tcp is not None and check.http is not None:
        yield Problem(where, "set tcp or http, not both (an agent can accompany either)")
    if check.tcp is None and check.http is None and check.agent is None:
        yield Problem(where, "set tcp, http or agent")
    if check.http is not None and not re.match(OWN_HOST, check.http):
        yield Problem(f"{where}.http", 'must ask the server itself: "http://[{address}]:PORT/PATH"')
    https = check.http is not None and check.http.startswith("https:")
    if not https and (not check.verify or check.ca is not None):
        yield Problem(f"{where}.{'ca' if check.verify else 'verify'}", "applies to https:// checks only")
    if check.host is not None and check.http is None:
        yield Problem(f"{where}.host", "applies to http checks only")


def _check_fallback(where: str, pool: Pool, site: Site) -> Iterator[Problem]:
    """A chain of fallbacks ends, and is short."""
    chain, following = [pool.name], pool.fallback
    while following is not None:
        chain.append(following)
        if following in chain[:-1]:
            names = tuple(("pool", name) for name in chain[1:])
            yield Problem(f"{where}.fallback", f"is a loop: {' -> '.join(chain)}", names, "is a loop")
            return
        if len(chain) > MAX_POOLS:
            yield Problem(f"{where}.fallback", f"at most {MAX_POOLS - 1} pools may follow a pool: {' -> '.join(chain)}")
            return
        fallback = site.pools.get(following)
        following = fallback.fallback if fallback else None
