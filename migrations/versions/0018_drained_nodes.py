"""The nodes that an operator has drained.

Only an addition that older programs ignore.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

KEY = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "drained_node",
        sa.Column("name", KEY, nullable=False),
        sa.Column("since", sa.Float(53), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_drained_node")),
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("drained_node")
