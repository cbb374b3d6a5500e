"""Tokens that identify clients over encrypted DNS, and when each was last used.

Only additions that older programs ignore.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

KEY = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "dns_token",
        sa.Column("name", KEY, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("previous", sa.String(64), nullable=True),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("origin", sa.String(8), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_dns_token")),
    )
    op.create_index("ix_dns_token_digest", "dns_token", ["digest"])
    op.create_index("ix_dns_token_previous", "dns_token", ["previous"])
    op.create_index("ix_dns_token_generation_name", "dns_token", ["generation", "name"])
    op.create_table(
        "dns_token_use",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("used_at", sa.Float(53), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_dns_token_use")),
    )


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("dns_token_use")
    for index in ("ix_dns_token_generation_name", "ix_dns_token_previous", "ix_dns_token_digest"):
        op.drop_index(index, "dns_token")
    op.drop_table("dns_token")
