"""Secrets of DNS cookies."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table; opening the database creates the secrets."""
    op.create_table(
        "cookie_secret",
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("position", name="pk_cookie_secret"),
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("cookie_secret")
