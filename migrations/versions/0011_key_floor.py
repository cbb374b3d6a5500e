"""The floor of key generations, and what tells a damaged token from one of an earlier version.

Only additions that older programs ignore. Clients that get an id or a new key from now on have a key generation above
all that earlier versions gave. Tokens are sealed as they are: one that has no end or all rights means it.
"""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

LARGEST = (1 << 31) - 1
FOUND = re.compile(r'(?<!\\)"key_generation":\s*(\d{1,10})\b')
SEALED = ("name", "hash", "created_at", "created_by", "scopes", "networks", "expires_at")


def upgrade() -> None:
    """Add the columns and fill them."""
    op.add_column("state", sa.Column("key_floor", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("token", sa.Column("seal", sa.String(64), server_default="", nullable=False))
    connection = op.get_bind()
    generation = connection.execute(sa.text("SELECT generation FROM state")).scalar()
    if generation:
        floor = min(max(generation, *_key_generations(connection)), LARGEST) + 1
        connection.execute(sa.text("UPDATE state SET key_floor = :floor"), {"floor": floor})
    token = sa.table("token", *(sa.column(name) for name in (*SEALED, "seal")))
    for row in connection.execute(sa.select(token)).mappings().all():
        with suppress(UnicodeError):  # a damaged hash is nobody's: its token allows nothing
            connection.execute(token.update().where(token.c.hash == row["hash"]).values(seal=_seal(row)))


def _key_generations(connection: sa.Connection) -> list[int]:
    """Key generations that clients have, and had as far as the audit tells."""
    texts = (
        'SELECT "before" FROM audit WHERE kind = \'client\' AND "before" IS NOT NULL AND "before" NOT LIKE :first',
        "SELECT spec FROM client WHERE spec NOT LIKE :first",
    )
    first = {"first": '%"key_generation":0,%'}
    found = (
        FOUND.search(text)
        for query in texts
        for text in connection.execute(sa.text(query).execution_options(yield_per=5000), first).scalars()
        if isinstance(text, str)
    )
    return [0, *(int(match[1]) for match in found if match)]


def _seal(row: Any) -> str:
    values = [_plain(row[name]) for name in SEALED]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    return float(value) if isinstance(value, int) else value


def downgrade() -> None:
    """Drop the columns."""
    op.drop_column("token", "seal")
    op.drop_column("state", "key_floor")
