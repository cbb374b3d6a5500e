"""Dynamic updates that have been made, so that none is made twice.

Only an addition that older programs ignore.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "seen_update",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("until", sa.BigInteger(), nullable=False, index=True),
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("seen_update")
