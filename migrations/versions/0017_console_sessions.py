"""The console's sessions, so that they outlive the process and are known to every node.

Only an addition that older programs ignore.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "console_session",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("account", sa.Text(), nullable=True),
        sa.Column("secure", sa.Boolean(), nullable=False),
        sa.Column("ends_at", sa.Float(53), nullable=False),
        sa.Column("used_at", sa.Float(53), nullable=False),
        sa.Column("seal", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_console_session")),
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("console_session")
