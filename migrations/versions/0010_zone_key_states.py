"""What the keys of zones are for, and where they are in their rollovers.

Only an addition that older programs ignore.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; keys that were made before sign all of their zones."""
    op.add_column("zone_key", sa.Column("sep", sa.Boolean(), server_default=sa.true(), nullable=False))
    op.add_column("zone_key", sa.Column("state", sa.String(16), server_default="active", nullable=False))
    op.add_column("zone_key", sa.Column("since", sa.BigInteger(), server_default="0", nullable=False))


def downgrade() -> None:
    """Drop the columns."""
    for column in ("since", "state", "sep"):
        op.drop_column("zone_key", column)
