"""How the records of zones changed, for incremental transfers.

Only an addition that older programs ignore: what they change is not in it, and is then transferred whole.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    key = sa.String().with_variant(sa.String(collation="C"), "postgresql")
    op.create_table(
        "zone_change",
        sa.Column("zone", key, nullable=False),
        sa.Column("generation", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("old_serial", sa.BigInteger(), nullable=False),
        sa.Column("new_serial", sa.BigInteger(), nullable=False),
        sa.Column("before", sa.String(64), nullable=False),
        sa.Column("after", sa.String(64), nullable=False),
        sa.Column("removed", sa.LargeBinary(), nullable=False),
        sa.Column("added", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("zone", "generation", name=op.f("pk_zone_change")),
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("zone_change")
