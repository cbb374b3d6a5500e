"""PostgreSQL URLs in libpq's form: one or more hosts, with TLS and password parameters in the query.

This module splits a URL by host and masks passwords; asyncpg interprets the parameters.
(PostgreSQL documentation, "Connection URIs")
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from dnsvip.errors import StoreError

FORM = '"postgresql://USER@HOST/NAME", with several servers "postgresql://USER@HOST1:5432,HOST2:5432/NAME"'
TARGET = "target_session_attrs"
WRITABLE = ("read-write", "primary")


def single_hosts(url: str) -> list[str]:
    """One URL for each host in a URL, in order; raises StoreError for a malformed one.

    With several hosts, only one that accepts writes will do, so `target_session_attrs` defaults to read-write.
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # its text may quote the password
        raise StoreError(f"database {hidden(url)}: is no URL: must be {FORM}") from None
    query = parse_qsl(parts.query, keep_blank_values=True)
    named = dict(query)
    if parts.fragment or not (parts.path.strip("/") or named.get("dbname")):
        raise StoreError(f"database {hidden(url)}: names no database: must be {FORM}")
    user, at, hosts = parts.netloc.rpartition("@")
    in_query = not hosts and "host" in named
    listed = (named["host"] if in_query else hosts).split(",")
    ports = named.get("port", "").split(",")
    if len(listed) == 1:
        return [url]
    if len(ports) not in (1, len(listed)):
        raise StoreError(f"database {hidden(url)}: {len(ports)} ports for {len(listed)} hosts")
    if (target := named.setdefault(TARGET, WRITABLE[0])) not in WRITABLE:
        raise StoreError(f"database {hidden(url)}: {TARGET}={target}: must be {' or '.join(WRITABLE)}")
    urls = []
    for number, host in enumerate(listed):
        port = ports[number % len(ports)]
        parameters = {**named, **({"host": host} if in_query else {}), **({"port": port} if port else {})}
        netloc = f"{user}{at}" if in_query else f"{user}{at}{host}"
        urls.append(
            urlunsplit((parts.scheme, netloc, parts.path, urlencode(parameters, safe="/", quote_via=quote), ""))
        )
    return urls


def hidden(url: str) -> str:
    """The URL with its passwords masked, for messages: also where it is none, as a password has an `/`, `?` or `#` that
    is not percent-encoded."""
    masked = re.sub(r"^([a-z]*://[^:/?#@]*):.*@", r"\1:***@", url, flags=re.DOTALL)
    return re.sub(r"([?&](?:ssl)?password=)[^&]*", r"\1***", masked)
