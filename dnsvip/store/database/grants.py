"""Which rights on its tables the user of a PostgreSQL URL lacks.

Whoever made the tables has all of them. Another user, as where each node has its own, may have been granted too few.
"""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.store.database.tables import metadata

FORBIDDEN = "42501"
"""PostgreSQL's code for a right that is missing (insufficient_privilege)."""

_LACKING = text("""
SELECT relname, "right" FROM pg_class JOIN (VALUES
  ('r', 'SELECT'), ('r', 'INSERT'), ('r', 'UPDATE'), ('r', 'DELETE'), ('S', 'USAGE')) AS wanted (kind, "right")
  ON relkind = kind::"char"
WHERE relnamespace = to_regnamespace(current_schema()) AND relname = ANY(:names) AND NOT
  CASE WHEN relkind = 'S' THEN has_sequence_privilege(oid, "right") ELSE has_table_privilege(oid, "right") END
ORDER BY relname, "right" DESC
""")


async def lacking(connection: AsyncConnection) -> list[str]:
    """The rights that are missing, as "INSERT on audit"; none of tables that are not there."""
    tables = [*metadata.tables, "alembic_version"]
    names = [*tables, *(f"{name}_id_seq" for name in tables)]
    rows = await connection.execute(_LACKING, {"names": names})
    return [f"{row.right} on {row.relname}" for row in rows if (row.right, row.relname) not in _UNUSED]


_UNUSED = {(right, "alembic_version") for right in ("INSERT", "UPDATE", "DELETE")} | {("USAGE", "state_id_seq")}
"""What only a migration needs, and what nothing does."""


def explained(said: str, statement: str | None) -> str:
    """What PostgreSQL says of a missing right, with the statement that needs it."""
    words = " ".join((statement or "").split()[:3]).removesuffix(",")
    return f"{said}{f' ({words} ...)' if words else ''}; `dnsvip doctor` lists the rights that its user lacks"
