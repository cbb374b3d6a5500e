from __future__ import annotations

from dnsvip.admin.console.sessions import IDLE, LIFETIME, Sessions


def test_a_session_is_found_by_its_id_alone() -> None:
    """Only the id that `open` gave finds the session, and only under the kind of cookie it was given as."""
    sessions = Sessions()
    name, session = sessions.open("token", secure=True, now=0)
    assert sessions.find(name, secure=True, now=1) is session
    assert sessions.find(name, secure=False, now=1) is None
    assert sessions.find(name + "x", secure=True, now=1) is None
    assert name not in repr(sessions.__dict__)
    assert "token" not in repr(session).replace("'token'", "")


def test_a_session_ends() -> None:
    """It ends by itself when nobody uses it, and after its lifetime whoever uses it."""
    sessions = Sessions()
    name, _ = sessions.open("token", secure=False, now=0)
    assert sessions.find(name, secure=False, now=IDLE) is None
    name, _ = sessions.open("token", secure=False, now=0)
    for now in range(0, int(LIFETIME), int(IDLE) - 1):
        assert sessions.find(name, secure=False, now=now)
    assert sessions.find(name, secure=False, now=LIFETIME) is None
    assert len(sessions) == 0


def test_sessions_are_bounded() -> None:
    """The one used longest ago gives way, first among the sessions of the same token."""
    sessions = Sessions(most=4, most_each=2)
    first, _ = sessions.open("a", secure=False, now=0)
    second, _ = sessions.open("a", secure=False, now=0)
    assert sessions.find(first, secure=False, now=1)
    sessions.open("a", secure=False, now=1)
    assert sessions.find(second, secure=False, now=1) is None
    assert sessions.find(first, secure=False, now=1)
    for token in "bcdefgh":
        sessions.open(token, secure=False, now=2)
    assert len(sessions) == 4
    assert sessions.find(first, secure=False, now=2) is None


def test_all_sessions_of_a_token_end_together() -> None:
    """`close_all` ends those of one token and no other."""
    sessions = Sessions()
    gone = [sessions.open("a", secure=False, now=0)[0] for _ in range(3)]
    kept, _ = sessions.open("b", secure=False, now=0)
    sessions.close_all("a")
    assert not any(sessions.find(name, secure=False, now=1) for name in gone)
    assert sessions.find(kept, secure=False, now=1)
