"""Whether the known flows of a deleted client end.

Only an addition that older programs ignore.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; the flows of clients that were deleted before go on."""
    op.add_column("deleted_client", sa.Column("end_flows", sa.Boolean(), server_default=sa.false(), nullable=False))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("deleted_client", "end_flows")
