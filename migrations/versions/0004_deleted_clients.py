"""Ids of deleted clients, which stay refused until the keys of that time have retired.

Only an addition that older programs ignore. Clients that were deleted before are found in the audit rows.
"""

from __future__ import annotations

import json
from contextlib import suppress

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

KEY = sa.String().with_variant(sa.String(collation="C"), "postgresql")
ROWS = 5000


def upgrade() -> None:
    """Create the table, and note the clients that were deleted since the oldest key."""
    op.create_table(
        "deleted_client",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("name", KEY, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_deleted_client"),
    )
    op.create_index("ix_deleted_client_generation", "deleted_client", ["generation"])
    connection = op.get_bind()
    gone = list(_gone(connection).values())
    table = sa.table("deleted_client", *(sa.column(name) for name in ("id", "name", "state", "generation")))
    for at in range(0, len(gone), ROWS):
        connection.execute(sa.insert(table), gone[at : at + ROWS])


def _gone(connection: sa.Connection) -> dict[int, dict[str, object]]:
    """The last owner of each id that was given up after the oldest epoch was published, and that nobody has now."""
    published = connection.execute(sa.text("SELECT published_generation FROM epoch")).scalars()
    oldest = min((generation for generation in published if isinstance(generation, int)), default=None)
    if oldest is None:
        return {}
    query = sa.text(
        'SELECT name, generation, "before", "after" FROM audit '
        "WHERE kind = 'client' AND \"before\" IS NOT NULL AND generation > :oldest ORDER BY audit.id"
    )
    gone: dict[int, dict[str, object]] = {}
    for row in connection.execute(query, {"oldest": oldest}):
        with suppress(
            ValueError, TypeError, KeyError, OverflowError, RecursionError
        ):  # a damaged row tells of itself alone
            before = json.loads(row.before)
            number, state = int(before["id"]), before["state"]
            if not (0 <= number < 1 << 63 and isinstance(row.generation, int) and _is_text(row.name, state)):
                continue
            if row.after is None or json.loads(row.after)["id"] != number:
                gone[number] = {"id": number, "name": row.name, "state": state, "generation": row.generation}
    for number in connection.execute(sa.text("SELECT id FROM client")).scalars() if gone else ():
        gone.pop(number, None)
    return gone


def _is_text(*values: object) -> bool:
    """Whether all are texts; raises UnicodeError where SQLite has bytes that are none."""
    for value in values:
        if not isinstance(value, str):
            return False
        value.encode()
    return True


def downgrade() -> None:
    """Drop the table."""
    op.drop_index("ix_deleted_client_generation", "deleted_client")
    op.drop_table("deleted_client")
