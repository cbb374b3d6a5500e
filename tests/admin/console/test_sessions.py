"""Sessions in the database: found by their cookie alone, bounded in number and time, known to every node."""

from __future__ import annotations

import json
import sqlite3
import time

import pytest

from dnsvip.admin.console.sessions import LIFETIME, Sessions
from dnsvip.errors import RevokedError, TooManySessions
from dnsvip.store.access.console_sessions import (
    IDLE,
    MOST,
    MOST_EACH,
    USED_SECONDS,
    StoredSession,
    User,
    digest_of,
    giving_way,
    owner_of,
)
from dnsvip.store.access.tokens import hash_of
from dnsvip.store.database.warrant import IN_FORCE
from tests.admin.conftest import Api

ALICE = User("alice", "https://id.example.test", "1234", ("ops",))


async def test_a_session_is_found_by_its_cookie_alone(api: Api) -> None:
    """Only the cookie that `open` gave finds the session, and only under the name it was given as; neither the database
    nor what a log could show of it has the cookie or the token, and what it has is no cookie."""
    sessions, owner = Sessions(), hash_of(api.token)
    cookie, session = await sessions.open(api.store, owner, secure=True, now=0)
    found = await sessions.find(api.store, cookie, secure=True, now=1)
    assert found is not None
    assert found[0] is session
    assert found[1].token is not None
    assert found[1].token.name == "test"
    assert await sessions.find(api.store, cookie, secure=False, now=1) is None
    assert await sessions.find(api.store, cookie + "x", secure=True, now=1) is None
    assert await sessions.find(api.store, digest_of(cookie), secure=True, now=1) is None
    with sqlite3.connect(api.folder / "test.db") as connection:
        rows = repr(connection.execute("SELECT * FROM console_session").fetchall())
    connection.close()
    assert digest_of(cookie) in rows
    for text in (rows, repr(session), repr(found), session.csrf):
        assert cookie not in text
        assert api.token not in text


async def test_a_session_ends(api: Api) -> None:
    """It ends by itself when nobody uses it, and after its lifetime whoever uses it."""
    sessions, owner = Sessions(), hash_of(api.token)
    cookie, _ = await sessions.open(api.store, owner, secure=False, now=0)
    assert await sessions.find(api.store, cookie, secure=False, now=IDLE) is None
    cookie, _ = await sessions.open(api.store, owner, secure=False, now=0)
    for now in range(0, int(LIFETIME), int(IDLE) - 1):
        assert await sessions.find(api.store, cookie, secure=False, now=now)
        await sessions.end()
    assert await sessions.find(api.store, cookie, secure=False, now=LIFETIME) is None


async def test_use_is_written_once_a_minute(api: Api) -> None:
    """However often a session is used, and by however many requests at once."""
    sessions = Sessions()
    cookie, _ = await sessions.open(api.store, hash_of(api.token), secure=False, now=0)
    written = []
    note = api.store.console_sessions.note_use

    async def counted(digest: str, now: float) -> None:
        written.append(now)
        await note(digest, now)

    api.store.console_sessions.note_use = counted  # type: ignore[method-assign]
    for now in range(int(2.5 * USED_SECONDS)):
        assert await sessions.find(api.store, cookie, secure=False, now=now)
    await sessions.end()
    assert written == [USED_SECONDS, 2 * USED_SECONDS]


async def test_sessions_are_bounded(api: Api) -> None:
    """Of the sessions of one token the one used longest ago gives way."""
    sessions, of_a = Sessions(), hash_of("a")
    cookies = [(await sessions.open(api.store, of_a, secure=False, now=n))[0] for n in range(MOST_EACH + 2)]
    kept = [await sessions.find(api.store, cookie, secure=False, now=99) is not None for cookie in cookies]
    assert kept == [False] * 2 + [True] * MOST_EACH


def held(counts: dict[str, int]) -> list[StoredSession]:
    """So many sessions of each owner, who take turns to use them."""
    turns = [(number, owner) for owner, count in counts.items() for number in range(count)]
    return [StoredSession(f"{owner} {number}", owner, False, LIFETIME, number) for number, owner in sorted(turns)]


def test_nobody_pushes_others_out() -> None:
    """Where all places are taken, one of who has most gives way: many sign-ins of some end no session of who has few,
    and keep nobody from signing in."""
    crowd = {f"crowd {number}": MOST_EACH for number in range(MOST // MOST_EACH - 1)}
    live = held({"few": 3, "several": MOST_EACH - 3, **crowd})
    assert len(live) == MOST
    for owner in ("newcomer", "few", "several"):
        (gone,) = giving_way(live, owner)
        assert gone.startswith("crowd")
        assert gone.endswith(" 0")
    assert giving_way(live, "crowd 3") == {"crowd 3 0"}
    assert giving_way(live[1:], "newcomer") == set()


def test_all_places_of_others() -> None:
    """Where all others have as few, who comes loses a session of its own, or is told; nobody else does."""
    alone = held({f"{number}": 1 for number in range(MOST)})
    with pytest.raises(TooManySessions, match="256 others are signed in"):
        giving_way(alone, "newcomer")
    assert giving_way(alone, "7") == {"7 0"}
    two = held({f"{number}": 2 for number in range(MOST // 2)})
    assert len(giving_way(two, "newcomer")) == 1
    assert giving_way(two, "7") == {"7 0"}


async def test_all_places_are_taken(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database keeps those that do not give way, and nothing of who is refused."""
    monkeypatch.setattr("dnsvip.store.access.console_sessions.MOST", 2)
    sessions = Sessions()
    cookies = [
        (await sessions.open(api.store, hash_of(owner), secure=False, now=now))[0] for now, owner in enumerate("aabb")
    ]
    kept = [await sessions.find(api.store, cookie, secure=False, now=9) is not None for cookie in cookies]
    assert kept == [False, True, False, True]
    with pytest.raises(TooManySessions):
        await sessions.open(api.store, hash_of("c"), secure=False, now=9)
    assert await sessions.find(api.store, cookies[1], secure=False, now=10)


async def test_another_process_knows_it_until_it_is_closed(api: Api) -> None:
    """A session is as good after a restart, and on another node; closed on one it is closed on all."""
    before, after = Sessions(), Sessions()
    cookie, session = await before.open(api.store, hash_of(api.token), secure=False, now=0)
    found = await after.find(api.store, cookie, secure=False, now=1)
    assert found is not None
    assert found[0].csrf == session.csrf
    await after.close(api.store, found[0])
    assert await before.find(api.store, cookie, secure=False, now=2) is None
    assert before.remembered(cookie, secure=False, now=2) is None


@pytest.mark.parametrize(
    "damage", ["ends_at = 1e9", "account = NULL", "owner = ?", "secure = 1", "account = 'x'", "seal = ''"]
)
async def test_a_damaged_row_is_no_session(api: Api, damage: str) -> None:
    """Whatever is lost of a row does not make the session last longer or be another's."""
    now, sessions = time.time(), Sessions()
    cookie, _ = await sessions.open(api.store, owner_of(ALICE), secure=False, now=now, user=ALICE)
    with sqlite3.connect(api.folder / "test.db") as connection:
        values = (hash_of(api.token),) if "?" in damage else ()
        connection.execute(f"UPDATE console_session SET {damage}", values)  # noqa: S608 - of this test
    connection.close()
    for secure in (False, True):
        assert await Sessions().find(api.store, cookie, secure=secure, now=now) is None


async def test_a_user_has_a_session_without_a_token(api: Api) -> None:
    """It names the user and the roles; what is done by it is refused once it has ended."""
    now, sessions = time.time(), Sessions()
    cookie, session = await sessions.open(api.store, owner_of(ALICE), secure=False, now=now, user=ALICE, seconds=60)
    found = await Sessions().find(api.store, cookie, secure=False, now=now)
    assert found is not None
    holder = found[1]
    assert (holder.session.user, holder.token) == (ALICE, None)
    assert await sessions.find(api.store, cookie, secure=False, now=now + 60) is None
    before = IN_FORCE.set(holder.warrant)
    try:
        await api.store.tokens.create("by-alice", "user alice")
        await sessions.close(api.store, session)
        with pytest.raises(RevokedError, match="ended"):
            await api.store.tokens.create("too-late", "user alice")
    finally:
        IN_FORCE.reset(before)


async def test_a_backup_has_no_sessions(api: Api) -> None:
    """Neither does a restored database, whoever was signed in to it."""
    sessions = Sessions()
    cookie, session = await sessions.open(api.store, hash_of(api.token), secure=False, now=0)
    await api.store.backups.write(api.folder / "backup", 0)
    lines = (api.folder / "backup").read_text().splitlines()
    assert {"token", "console_session"} & {row[0] for row in map(json.loads, lines[1:-1])} == {"token"}
    assert session.stored.digest not in "".join(lines)
    await api.store.backups.restore(api.folder / "backup", "test", replacing=True)
    assert await sessions.find(api.store, cookie, secure=False, now=1) is None
