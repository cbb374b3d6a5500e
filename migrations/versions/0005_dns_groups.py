"""Groups of DNS servers. Only an addition that older programs ignore."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

KEY = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "dns_group",
        sa.Column("name", KEY, nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("origin", sa.String(8), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_dns_group"),
    )
    op.create_index("ix_dns_group_generation_name", "dns_group", ["generation", "name"])


def downgrade() -> None:
    """Drop the table."""
    op.drop_index("ix_dns_group_generation_name", "dns_group")
    op.drop_table("dns_group")
