"""First tables."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

KEY = sa.String().with_variant(sa.String(collation="C"), "postgresql")
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create every table."""
    op.create_table(
        "state",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("identity", sa.String(32), nullable=False),
        sa.Column("key_check", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_state"),
        sa.CheckConstraint("id = 1", name=op.f("ck_state_singleton")),
    )
    _kind("cluster")
    _kind("tier", sa.Column("code", sa.BigInteger(), nullable=False), sa.UniqueConstraint("code", name="uq_tier_code"))
    _kind("pool")
    _kind("zone")
    _kind("service")
    _kind("tsig", sa.Column("secret", sa.LargeBinary(), nullable=False))
    _kind(
        "client",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("tier", KEY, nullable=False),
        sa.UniqueConstraint("id", name="uq_client_id"),
    )
    op.create_index("ix_client_tier", "client", ["tier"])
    _kind("classify")
    op.create_table(
        "client_match",
        sa.Column("step", sa.String(16), nullable=False),
        sa.Column("value", KEY, nullable=False),
        sa.Column("client", KEY, nullable=False),
        sa.PrimaryKeyConstraint("step", "value", name="pk_client_match"),
        sa.ForeignKeyConstraint(["client"], ["client.name"], name="fk_client_match_client", ondelete="CASCADE"),
    )
    op.create_index("ix_client_match_client", "client_match", ["client"])
    _keys()
    _people()


def _kind(name: str, *extra: Any) -> None:
    op.create_table(
        name,
        sa.Column("name", KEY, nullable=False),
        *extra,
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("origin", sa.String(8), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=f"pk_{name}"),
    )
    op.create_index(f"ix_{name}_generation_name", name, ["generation", "name"])


def _keys() -> None:
    op.create_table(
        "epoch",
        sa.Column("cluster", KEY, nullable=False),
        sa.Column("slot", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("published_at", sa.BigInteger(), nullable=False),
        sa.Column("published_generation", sa.BigInteger(), nullable=False),
        sa.Column("activated_at", sa.BigInteger(), nullable=False),
        sa.Column("retiring_since", sa.BigInteger(), nullable=False),
        sa.Column("keep_seconds", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("cluster", "slot", name="pk_epoch"),
    )
    op.create_table(
        "client_master",
        sa.Column("cluster", KEY, nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("cluster", name="pk_client_master"),
    )


def _people() -> None:
    op.create_table(
        "node",
        sa.Column("name", KEY, nullable=False),
        sa.Column("roles", sa.String(64), nullable=False),
        sa.Column("instance", sa.String(32), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("seen_at", sa.Float(53), nullable=False),
        sa.Column("lease_seconds", sa.Float(53), nullable=False),
        sa.PrimaryKeyConstraint("name", "roles", "instance", name="pk_node"),
    )
    op.create_table(
        "token",
        sa.Column("name", KEY, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("created_at", sa.Float(53), nullable=False),
        sa.Column("created_by", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_token"),
        sa.UniqueConstraint("hash", name="uq_token_hash"),
    )
    op.create_table(
        "audit",
        sa.Column("id", SERIAL, autoincrement=True, nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.Float(53), nullable=False),
        sa.Column("actor", sa.String(255), nullable=False),
        sa.Column("action", sa.String(1), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("name", KEY, nullable=False),
        sa.Column("before", sa.Text(), nullable=True),
        sa.Column("after", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_index("ix_audit_generation", "audit", ["generation"])


def downgrade() -> None:
    """Refuse: nothing precedes the first tables."""
    raise NotImplementedError("remove the database instead")
