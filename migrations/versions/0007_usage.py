"""What each client has used at each node.

Only an addition that older programs ignore.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

KEY = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "client_usage",
        sa.Column("client", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("node", KEY, nullable=False),
        sa.Column("packets", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("flows", sa.BigInteger(), nullable=False),
        sa.Column("drops", sa.BigInteger(), nullable=False),
        sa.Column("since", sa.Float(53), nullable=False),
        sa.Column("seen_at", sa.Float(53), nullable=False),
        sa.PrimaryKeyConstraint("client", "node", name="pk_client_usage"),
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("client_usage")
