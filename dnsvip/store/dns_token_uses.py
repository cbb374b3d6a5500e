"""When each text of a DNS token was last used, by its digest. It makes no generation, and no backup has it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import delete, exists, or_, select

from dnsvip.store.database.damage import moment, shown
from dnsvip.store.database.database import BATCH, in_batches
from dnsvip.store.database.session import Session
from dnsvip.store.database.tables import dns_token, dns_token_use
from dnsvip.store.database.upsert import insert_into

_HELD = exists().where(
    or_(dns_token.c.digest == dns_token_use.c.digest, dns_token.c.previous == dns_token_use.c.digest)
)


class DnsTokenUses:
    """The uses in a store."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def add(self, uses: Mapping[str, float]) -> None:
        """Note when texts were used, by digest (unix seconds), the later time where there is one; those that the site
        does not have (any more) go."""
        async with self._session.write_unordered() as connection:
            for some in in_batches(sorted(uses), BATCH):  # in one order, so that two nodes never wait for each other
                rows = [{"digest": digest, "used_at": uses[digest]} for digest in some]
                statement = insert_into(connection, dns_token_use).values(rows)
                later = statement.excluded.used_at
                await connection.execute(
                    statement.on_conflict_do_update(
                        index_elements=["digest"], set_={"used_at": later}, where=dns_token_use.c.used_at < later
                    )
                )
            await connection.execute(delete(dns_token_use).where(~_HELD))

    async def of(self, digests: Iterable[str]) -> dict[str, float]:
        """When texts were last used, by digest; a time that cannot be read is none."""
        found: dict[str, float] = {}
        async with self._session.read() as connection:
            for some in in_batches(digests, BATCH):
                query = select(dns_token_use).where(dns_token_use.c.digest.in_(some))
                for row in await connection.execute(query):
                    try:
                        found[shown(row.digest)] = moment(row.used_at)
                    except (ValueError, TypeError):
                        continue
        return found
