"""The tables, as SQLAlchemy Core. `migrations/` creates them; a test compares the two.

Each kind of object has a table with one row per object: its name, columns for fields that are unique or searched,
`spec` (its JSON from `dnsvip.site.plain.dump`, without secrets), its origin, and the generation that last changed it.
Secrets are wrapped, in columns of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    Computed,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    case,
    false,
    true,
)
from sqlalchemy.ext.compiler import compiles

SCHEMA = "0018"
"""The newest migration known to this code. A newer database is opened only if its `state.min_reader` allows it."""

OLDEST = "0002"
"""The oldest SCHEMA whose programs can use these tables alongside this one; stored as `state.min_reader`."""

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

# Byte order on both databases, so that paging by name is the same everywhere.
Key = String().with_variant(String(collation="C"), "postgresql")
Serial = BigInteger().with_variant(Integer, "sqlite")


class JsonField(ColumnElement[str]):
    """A field of the JSON in `spec`, in the syntax of each database."""

    inherit_cache = False

    def __init__(self, field: str) -> None:
        self.field = field


@compiles(JsonField, "sqlite")
def _sqlite_field(element: JsonField, _compiler: Any, **_: Any) -> str:
    return f"CASE WHEN json_valid(spec) THEN json_extract(spec, '$.{element.field}') END"


@compiles(JsonField)
def _field(element: JsonField, _compiler: Any, **_: Any) -> str:
    return f"(spec::json ->> '{element.field}')"


@compiles(Computed, "postgresql")
def _stored(element: Computed, compiler: Any, **_: Any) -> str:
    """Until version 18 it knows no other ones; SQLite computes when it reads, and can add such a column later."""
    return f"GENERATED ALWAYS AS ({compiler.sql_compiler.process(element.sqltext)}) STORED"


class IsJson(ColumnElement[bool]):
    """Whether `spec` is JSON: a condition that touches a row which cannot be read must not fail. Before PostgreSQL 16
    only by its first and last character."""

    inherit_cache = False


@compiles(IsJson, "sqlite")
def _sqlite_is_json(_element: IsJson, _compiler: Any, **_: Any) -> str:
    return "json_valid(spec)"


@compiles(IsJson)
def _is_json(_element: IsJson, compiler: Any, **_: Any) -> str:
    version = getattr(compiler.dialect, "server_version_info", None) or (0,)
    return "(spec IS JSON)" if version >= (16,) else "(left(spec, 1) = '{' AND right(spec, 1) = '}')"


def stored_columns(table: Table) -> list[Column[Any]]:
    """The stored columns, without those that the database computes: it cannot, of a row whose JSON is damaged."""
    return [column for column in table.columns if column.computed is None]


def read_field(field: str) -> ColumnElement[Any]:
    """A field of the JSON in `spec`, for conditions; NULL where that is none."""
    return case((IsJson(), JsonField(field)))


state = Table(
    "state",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1", name="singleton"), primary_key=True),
    Column("generation", BigInteger, nullable=False),
    Column("identity", String(32), nullable=False),  # random; differs in a replaced database
    Column("key_check", LargeBinary, nullable=False),  # wrapped constant: detects a wrong key
    Column("min_reader", String(8), nullable=False, server_default="0002"),  # the oldest SCHEMA that may use it
    Column("next_key_id", String(32)),  # of the key-encryption key announced for a rewrap
    Column("key_floor", BigInteger, server_default="0", nullable=False),  # see objects/key_floor.py
)


def _kind(name: str, *columns: Column[int] | Column[str] | Column[bytes]) -> Table:
    table = Table(
        name,
        metadata,
        Column("name", Key, primary_key=True),
        *columns,
        Column("spec", Text, nullable=False),
        Column("origin", String(8), nullable=False),
        Column("generation", BigInteger, nullable=False),
    )
    Index(None, table.c.generation, table.c.name)
    return table


cluster = _kind("cluster")
tier = _kind("tier", Column("code", BigInteger, nullable=False, unique=True))
pool = _kind("pool")
zone = _kind("zone")
service = _kind("service")
dns_group = _kind("dns_group")
tsig = _kind("tsig", Column("secret", LargeBinary, nullable=False))
dns_token = _kind(
    "dns_token",
    Column("digest", String(64), nullable=False, index=True),
    Column("previous", String(64), index=True),
)
client = _kind(
    "client",
    Column("id", BigInteger, nullable=False, unique=True),
    Column("tier", Key, nullable=False, index=True),
    # Computed from `spec`, so that rows written by a program of an older schema have it too.
    Column("state", String(16), Computed(JsonField("state"))),
)
# For sorting and filtering lists of a million.
Index(None, client.c.tier, client.c.name)
Index(None, client.c.state, client.c.name)
classify = _kind("classify")

KINDS: Mapping[str, Table] = {
    table.name: table for table in (cluster, tier, pool, zone, service, dns_group, tsig, dns_token, client, classify)
}
"""Kind of object -> its table; parents come first."""

client_match = Table(
    "client_match",
    metadata,
    Column("step", String(16), primary_key=True),
    Column("value", Key, primary_key=True),
    Column("client", Key, ForeignKey("client.name", ondelete="CASCADE"), nullable=False, index=True),
)

deleted_client = Table(  # ids that clients have given up: addresses with them are refused
    "deleted_client",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("name", Key, nullable=False),  # of the client that had it
    Column("state", String(16), nullable=False),  # in which it gave it up
    Column("generation", BigInteger, nullable=False, index=True),  # that it did so in
    Column("end_flows", Boolean, nullable=False, server_default=false()),  # its known flows end too
)

epoch = Table(
    "epoch",
    metadata,
    Column("cluster", Key, primary_key=True),
    Column("slot", Integer, primary_key=True, autoincrement=False),
    Column("state", String(16), nullable=False),
    Column("secret", LargeBinary, nullable=False),
    Column("published_at", BigInteger, nullable=False),
    Column("published_generation", BigInteger, nullable=False),
    Column("activated_at", BigInteger, nullable=False),
    Column("retiring_since", BigInteger, nullable=False),
    Column("keep_seconds", BigInteger, nullable=False),
)

key_slot = Table(  # reserved: addresses of a lost key may still be alive
    "key_slot",
    metadata,
    Column("cluster", Key, primary_key=True),
    Column("slot", Integer, primary_key=True, autoincrement=False),
    Column("key_id", String(32), primary_key=True),
    Column("until", BigInteger, nullable=False),
)

client_master = Table(
    "client_master",
    metadata,
    Column("cluster", Key, primary_key=True),
    Column("secret", LargeBinary, nullable=False),
)

cookie_secret = Table(
    "cookie_secret",
    metadata,
    Column("position", Integer, primary_key=True, autoincrement=False),  # 0 active, 1 next, 2 previous
    Column("secret", LargeBinary, nullable=False),
)

zone_key = Table(
    "zone_key",
    metadata,
    Column("zone", Key, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("algorithm", String(32), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("secret", LargeBinary, nullable=False),
    Column("sep", Boolean, server_default=true(), nullable=False),
    Column("state", String(16), server_default="active", nullable=False),
    Column("since", BigInteger, server_default="0", nullable=False),
)

client_authority = Table(  # signs client certificates; the one with the highest number does
    "client_authority",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("certificate", Text, nullable=False),
    Column("replaced_at", BigInteger),  # NULL: it is in use
    Column("secret", LargeBinary, nullable=False),
)

zone_change = Table(  # the journal that incremental transfers are made from
    "zone_change",
    metadata,
    Column("zone", Key, primary_key=True),
    Column("generation", BigInteger, primary_key=True, autoincrement=False),  # that made the change
    Column("old_serial", BigInteger, nullable=False),
    Column("new_serial", BigInteger, nullable=False),
    Column("before", String(64), nullable=False),  # digests of the texts
    Column("after", String(64), nullable=False),
    Column("removed", LargeBinary, nullable=False),  # records as in messages
    Column("added", LargeBinary, nullable=False),
)

zone_refresh = Table(  # what is known of secondary zones
    "zone_refresh",
    metadata,
    Column("zone", Key, primary_key=True),
    Column("serial", BigInteger),  # NULL: nothing is stored
    Column("refresh", BigInteger, nullable=False),
    Column("retry", BigInteger, nullable=False),
    Column("expire", BigInteger, nullable=False),
    Column("checked_at", Float(53), nullable=False),
    Column("tried_at", Float(53), nullable=False),
    Column("notified_at", Float(53), nullable=False),
    Column("failures", BigInteger, nullable=False),
    Column("primary_server", String(320), nullable=False),
    Column("error", String(400), nullable=False),
)

dns_token_use = Table(  # when each token was last used, by digest; nodes write it once a minute at most
    "dns_token_use",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("used_at", Float(53), nullable=False),
)

node = Table(
    "node",
    metadata,
    Column("name", Key, primary_key=True),
    Column("roles", String(64), primary_key=True),
    Column("instance", String(32), primary_key=True),
    Column("generation", BigInteger, nullable=False),
    Column("version", String(64), nullable=False),
    Column("seen_at", Float(53), nullable=False),
    Column("lease_seconds", Float(53), nullable=False),
    Column("started_at", Float(53)),
    Column("taken_at", Float(53)),  # when the process applied the generation
    Column("keys", Text),  # JSON: ids of the keys it holds
    Column("detail", Text),  # JSON: further details it reports
)

drained_node = Table(  # nodes that an operator gives no traffic
    "drained_node",
    metadata,
    Column("name", Key, primary_key=True),
    Column("since", Float(53), nullable=False),
)

client_usage = Table(  # what clients have used at each node
    "client_usage",
    metadata,
    Column("client", BigInteger, primary_key=True, autoincrement=False),  # its id
    Column("node", Key, primary_key=True),
    Column("packets", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("flows", BigInteger, nullable=False),
    Column("drops", BigInteger, nullable=False),
    Column("since", Float(53), nullable=False),
    Column("seen_at", Float(53), nullable=False),
)

seen_update = Table(  # dynamic updates that have been made
    "seen_update",
    metadata,
    Column("digest", String(64), primary_key=True),  # of key and signature
    Column("until", BigInteger, nullable=False, index=True),  # unix seconds: how long that is good
)

token = Table(
    "token",
    metadata,
    Column("name", Key, primary_key=True),
    Column("hash", String(64), nullable=False, unique=True),
    Column("created_at", Float(53), nullable=False),
    Column("created_by", String(255), nullable=False),
    Column("scopes", Text),  # JSON: role, scopes, per_minute; NULL: all rights
    Column("networks", Text),  # JSON: source networks it may be used from
    Column("expires_at", Float(53)),
    Column("last_used_at", Float(53)),
    Column("seal", String(64), server_default="", nullable=False),  # of the rest; "": of a program of before
)

console_session = Table(  # browsers that are signed in to the console; of cookies and tokens only hashes
    "console_session",
    metadata,
    Column("digest", String(64), primary_key=True),  # of the cookie
    Column("owner", String(64), nullable=False),  # the hash of the token, or of the user
    Column("account", Text),  # JSON: a user by OpenID Connect; NULL: a token's session
    Column("secure", Boolean, nullable=False),
    Column("ends_at", Float(53), nullable=False),
    Column("used_at", Float(53), nullable=False),
    Column("seal", String(64), nullable=False),  # of all but used_at
)

audit = Table(
    "audit",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("generation", BigInteger, nullable=False, index=True),
    Column("at", Float(53), nullable=False),
    Column("actor", String(255), nullable=False),
    Column("action", String(1), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("name", Key, nullable=False),
    Column("before", Text),
    Column("after", Text),
    Column("source", String(64)),  # the address that the call came from; NULL: the node itself, or an older one
    Index(None, "name", "kind", "id"),  # not kind first: planners would choose it over the generation's
    Index(None, "actor", "id"),
    Index(None, "at", "id"),
)
