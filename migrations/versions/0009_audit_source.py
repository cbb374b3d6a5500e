"""The address that each change in the audit was asked from.

Only an addition that older programs ignore.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("audit", sa.Column("source", sa.String(64), nullable=True))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("audit", "source")
