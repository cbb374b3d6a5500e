"""Alembic's entry: runs on the connection that `dnsvip.store.database.schema` passes in, or by hand on a URL.

By hand: `alembic -c migrations/alembic.ini -x url=sqlite:///FILE upgrade head` (or `revision --autogenerate`).
"""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, create_engine

from dnsvip.store.database.tables import metadata


def run(connection: Connection) -> None:
    """Run the migrations that were asked for inside one transaction."""
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    with create_engine(context.get_x_argument(as_dictionary=True)["url"]).begin() as made:
        run(made)
