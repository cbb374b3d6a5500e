"""When secondary zones were last checked.

Only an addition that older programs ignore.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    key = sa.String().with_variant(sa.String(collation="C"), "postgresql")
    op.create_table(
        "zone_refresh",
        sa.Column("zone", key, nullable=False),
        sa.Column("serial", sa.BigInteger(), nullable=True),
        sa.Column("refresh", sa.BigInteger(), nullable=False),
        sa.Column("retry", sa.BigInteger(), nullable=False),
        sa.Column("expire", sa.BigInteger(), nullable=False),
        sa.Column("checked_at", sa.Float(53), nullable=False),
        sa.Column("tried_at", sa.Float(53), nullable=False),
        sa.Column("notified_at", sa.Float(53), nullable=False),
        sa.Column("failures", sa.BigInteger(), nullable=False),
        sa.Column("primary_server", sa.String(320), nullable=False),
        sa.Column("error", sa.String(400), nullable=False),
        sa.PrimaryKeyConstraint("zone", name=op.f("pk_zone_refresh")),
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("zone_refresh")
