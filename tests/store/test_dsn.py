"""PostgreSQL URLs: one per server, and none that shows a password."""

from __future__ import annotations

import pytest

from dnsvip.errors import StoreError
from dnsvip.store.database.dsn import hidden, single_hosts

SAID = "sslmode=verify-full&sslrootcert=/etc/ca%20dir/ca.pem"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u@h/db", ["postgresql://u@h/db"]),
        (f"postgresql://u:p%40@h:1/db?{SAID}", [f"postgresql://u:p%40@h:1/db?{SAID}"]),
        (
            "postgresql://u@h1:5432,[2001:db8::1]:5433/db",
            [
                "postgresql://u@h1:5432/db?target_session_attrs=read-write",
                "postgresql://u@[2001:db8::1]:5433/db?target_session_attrs=read-write",
            ],
        ),
        (
            f"postgresql://u:p%40@h1,h2/db?{SAID}&target_session_attrs=primary",
            [f"postgresql://u:p%40@{host}/db?{SAID}&target_session_attrs=primary" for host in ("h1", "h2")],
        ),
        (
            "postgresql://u@/db?host=/run/a,/run/b&port=1,2",
            [
                f"postgresql://u@/db?host=/run/{name}&port={port}&target_session_attrs=read-write"
                for name, port in (("a", 1), ("b", 2))
            ],
        ),
    ],
)
def test_each_server_has_a_url(url: str, expected: list[str]) -> None:
    """A URL with several servers is split into one per server, each requiring a writable server."""
    assert single_hosts(url) == expected


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://u:hunter2@h1,h2", "names no database"),
        ("postgresql://u:hunter2@h1,h2/db?target_session_attrs=standby", "standby: must be read-write or primary"),
        ("postgresql://u:hunter2@/db?host=a,b,c&port=1,2", "2 ports for 3 hosts"),
        ("postgresql://u:hunter2@[::1/db", "is no URL"),
        ("postgresql://u:hunter2\u2100@h/db", "is no URL"),
        ("postgresql://u:hunter2#@h/db", "names no database"),
    ],
)
def test_invalid_urls_are_refused(url: str, message: str) -> None:
    """An invalid URL is refused without showing its password."""
    with pytest.raises(StoreError, match=message) as caught:
        single_hosts(url)
    assert "hunter2" not in str(caught.value)


def test_passwords_are_hidden() -> None:
    """A password is hidden in the authority and in the parameters."""
    shown = hidden("postgresql://u:hunter2@h1,h2/db?sslpassword=hunter3&password=hunter4&sslmode=require")
    assert shown == "postgresql://u:***@h1,h2/db?sslpassword=***&password=***&sslmode=require"
    assert hidden("postgresql://u@h/db?sslmode=require") == "postgresql://u@h/db?sslmode=require"
    assert hidden("postgresql://h:5432/db") == "postgresql://h:5432/db"


@pytest.mark.parametrize("letter", ["/", "?", "#", "@", ":", "[", "\n", "\u2100", "%", " ", "&"])
def test_passwords_that_break_the_url_are_hidden(letter: str) -> None:
    """A password that is not percent-encoded, so that the URL means something else, is in no message either."""
    shown = hidden(f"postgresql://u:hun{letter}ter2@h/db")
    assert shown == "postgresql://u:***@h/db"
