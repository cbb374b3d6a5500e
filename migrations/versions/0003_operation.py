"""Operations: compatible readers, reserved key slots, what nodes hold, scopes and limits of tokens.

Only additions that a program of 0002 ignores: new tables, and columns that are nullable or have a default.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

KEY = sa.String().with_variant(sa.String(collation="C"), "postgresql")

COLUMNS = (
    ("state", sa.Column("min_reader", sa.String(8), nullable=False, server_default="0002")),
    ("state", sa.Column("next_key_id", sa.String(32), nullable=True)),
    ("node", sa.Column("started_at", sa.Float(53), nullable=True)),
    ("node", sa.Column("taken_at", sa.Float(53), nullable=True)),
    ("node", sa.Column("keys", sa.Text(), nullable=True)),
    ("node", sa.Column("detail", sa.Text(), nullable=True)),
    ("token", sa.Column("scopes", sa.Text(), nullable=True)),
    ("token", sa.Column("networks", sa.Text(), nullable=True)),
    ("token", sa.Column("expires_at", sa.Float(53), nullable=True)),
    ("token", sa.Column("last_used_at", sa.Float(53), nullable=True)),
)


INDEXES = (
    ("client", ("tier", "name")),
    ("client", ("state", "name")),
    ("audit", ("name", "kind", "id")),
    ("audit", ("actor", "id")),
    ("audit", ("at", "id")),
)


def upgrade() -> None:
    """Add columns, tables and indexes."""
    for table, column in COLUMNS:
        op.add_column(table, column)
    # Computed by the database, so that it is also correct for rows written by a program of 0002.
    # A damaged row has none.
    sqlite = op.get_bind().dialect.name == "sqlite"
    virtual = "(CASE WHEN json_valid(spec) THEN json_extract(spec, '$.state') END) VIRTUAL"
    field = virtual if sqlite else "(spec::json ->> 'state') STORED"
    op.execute(f"ALTER TABLE client ADD COLUMN state VARCHAR(16) GENERATED ALWAYS AS {field}")
    for table, columns in INDEXES:
        op.create_index(f"ix_{table}_{'_'.join(columns)}", table, list(columns))
    op.create_table(
        "key_slot",
        sa.Column("cluster", KEY, nullable=False),
        sa.Column("slot", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("key_id", sa.String(32), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("cluster", "slot", "key_id", name="pk_key_slot"),
    )


def downgrade() -> None:
    """Drop the additions."""
    op.drop_table("key_slot")
    for table, columns in INDEXES:
        op.drop_index(f"ix_{table}_{'_'.join(columns)}", table)
    op.drop_column("client", "state")
    for table, column in reversed(COLUMNS):
        op.drop_column(table, column.name)
