"""DNS tokens: which text is whose, when one ends, who guesses, and that tables follow a site."""

from __future__ import annotations

import hashlib
from ipaddress import IPv4Address, IPv6Address

import pytest

from dnsvip.dns.engine import Engine
from dnsvip.dns.identity.tokens import TokenTable
from dnsvip.dns.protection import guesses
from dnsvip.dns.protection.token_check import TokenCheck
from dnsvip.site import DnsToken
from dnsvip.site.cow_map import CowMap
from tests.samples import NOW, make_snapshot

FIRST, SECOND = "dv" + "a" * 26, "dv" + "b2" * 13
HERE = IPv6Address("2001:db8:5::1")


def digest(text: str) -> str:
    """What a site has of a token."""
    return hashlib.sha256(text.encode()).hexdigest()


TOKENS = {"acme": DnsToken("acme", digest(SECOND), digest(FIRST), int(NOW) + 10), "old": DnsToken("old", digest("x"))}


@pytest.mark.parametrize(
    ("text", "at", "name"),
    [
        (SECOND, NOW, "acme"),
        (SECOND.upper(), NOW, "acme"),
        (FIRST, NOW, "acme"),
        (FIRST, NOW + 10, None),
        (SECOND, NOW + 1e9, "acme"),
        ("x", NOW, None),
        (SECOND[:-1], NOW, None),
        (SECOND + ".", NOW, None),
        ("dv" + "\u212a" * 26, NOW, None),
        ("", NOW, None),
    ],
)
def test_a_token_is_known_by_its_text_until_it_ends(text: str, at: float, name: str | None) -> None:
    """Case does not matter, the previous text ends at its time, and a text that is no token is never looked up."""
    assert TokenTable(TOKENS).name_of(text, at) == name


def test_a_table_follows_the_site() -> None:
    """A token that is replaced, renamed or removed is so at once, and the table before stays as it was."""
    before = TokenTable(CowMap(TOKENS.items()))
    moved = before._tokens.changed(["old"], [("acme", DnsToken("acme", digest(FIRST)))])  # type: ignore[attr-defined]
    after = TokenTable(moved.changed([], [("other", DnsToken("other", digest(SECOND)))]), before)
    assert [after.name_of(text, NOW + 99) for text in (FIRST, SECOND)] == ["acme", "other"]
    assert [before.name_of(text, NOW + 99) for text in (FIRST, SECOND)] == [None, "acme"]


def test_an_engine_knows_the_tokens_of_its_site() -> None:
    """The engine has the table of its snapshot; uses, failures and guesses continue with the next one."""
    made = make_snapshot({"dns_token": {"acme": {"digest": digest(FIRST)}}})
    engine = Engine(made)
    assert engine.tokens.verify(FIRST, HERE, NOW) == "acme"
    assert engine.tokens.verify(SECOND, HERE, NOW) is None
    after = Engine(make_snapshot({"dns_token": {"acme": {"digest": digest(SECOND)}}}), engine)
    assert after.tokens.stands(FIRST, NOW) is None
    assert after.tokens.verify(SECOND, HERE, NOW + 1) == "acme"
    assert after.tokens.uses == {digest(FIRST): NOW, digest(SECOND): NOW + 1}
    assert after.tokens.failures == 1


def test_a_network_that_guesses_is_refused_unseen_for_a_while() -> None:
    """After too many different wrong tokens in a minute even the right one of that network is refused; others are not,
    and after a while it is looked at again."""
    check = TokenCheck(TokenTable(TOKENS))
    for number in range(guesses.GUESSES):
        assert check.verify(f"dv{number + 2:026}", HERE, NOW + number) is None
    neighbour, elsewhere = IPv6Address("2001:db8:5::2"), IPv6Address("2001:db8:5:1::1")
    assert check.verify(SECOND, neighbour, NOW + 20) is None
    assert check.verify(SECOND, elsewhere, NOW + 20) == "acme"
    assert check.verify(SECOND, neighbour, NOW + guesses.GUESSES - 1 + guesses.REFUSED) == "acme"
    assert (check.failures, check.refusals) == (guesses.GUESSES + 1, 1)


@pytest.mark.parametrize(("processes", "most"), [(1, 16), (2, 8), (4, 4), (64, 4)])
def test_processes_share_what_a_node_takes(processes: int, most: int) -> None:
    """Connections of a guesser come to any process of a node, so each takes its part, a few at least; with the next
    engine too."""
    check = TokenCheck(TokenTable(TOKENS))
    check.guesses.share(processes)
    for number in range(most):
        assert not TokenCheck(TokenTable(TOKENS), check).guesses.refuses(HERE, NOW)
        check.verify(f"dv{number + 2:026}", HERE, NOW)
    assert check.guesses.refuses(HERE, NOW)


def test_a_guesser_locks_no_neighbour_out() -> None:
    """Of a network that guesses, tokens go on that were good from there before: not from elsewhere, not when they have
    ended since, and that lifts no refusal."""
    check = TokenCheck(TokenTable(TOKENS))
    other = IPv4Address("192.0.2.1")
    for text in (FIRST, SECOND):
        assert check.verify(text, HERE, NOW) == "acme"
    for source in (HERE, other):
        for number in range(guesses.GUESSES):
            check.verify(f"dv{number + 2:026}", source, NOW)
    assert check.verify(SECOND, HERE, NOW + 100) == "acme"
    assert check.verify(SECOND, other, NOW + 100) is None
    assert check.verify(FIRST, HERE, NOW + 100) is None
    assert check.verify("dv" + "z" * 26, HERE, NOW + 101) is None
    assert check.refusals == 2


def test_a_forged_source_locks_nobody_out() -> None:
    """Wrong tokens from addresses that may be forged have their network prove its addresses, and no more."""
    check = TokenCheck(TokenTable(TOKENS))
    neighbour, elsewhere = IPv6Address("2001:db8:5::2"), IPv6Address("2001:db8:5:1::1")
    for number in range(2 * guesses.GUESSES):
        assert check.verify(f"dv{number + 2:026}", HERE, NOW, proven=False) is None
    assert check.verify(SECOND, HERE, NOW, proven=False) == "acme"
    assert check.verify(SECOND, neighbour, NOW + 1) == "acme"
    assert [check.guesses.suspects(source, NOW + 1) for source in (neighbour, elsewhere)] == [True, False]
    assert not check.guesses.suspects(HERE, NOW + guesses.WITHIN)
    assert check.failures == 2 * guesses.GUESSES


def test_a_clock_that_is_set_back_locks_nobody_out() -> None:
    """Refusals and suspicions of a time that is yet to come end, however far the clock was ahead."""
    check = guesses.Guesses()
    for number in range(guesses.GUESSES):
        check.note(HERE, str(number), NOW)
    check.suspect(HERE, NOW)
    assert check.refuses(HERE, NOW)
    assert check.suspects(HERE, NOW)
    assert not check.refuses(HERE, NOW - 86_400)
    assert not check.suspects(HERE, NOW - 86_400)


def test_one_wrong_token_again_and_again_locks_nobody_out() -> None:
    """A device that was never told of the new token does not count as who guesses, nor do guesses that come slowly."""
    check = TokenCheck(TokenTable(TOKENS))
    here, other = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.200")
    for _ in range(10 * guesses.GUESSES):
        assert check.verify("dv" + "z" * 26, here, NOW) is None
    for number in range(2 * guesses.GUESSES):
        assert check.verify(f"wrong {number}", here, NOW + 10 * number) is None
    assert check.verify(SECOND, other, NOW + 20 * guesses.GUESSES) == "acme"


def test_what_is_remembered_of_guesses_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many networks guess however many tokens, so many networks and tokens of each are remembered."""
    monkeypatch.setattr(guesses, "NETWORKS", 50)
    monkeypatch.setattr(guesses, "KNOWN", 50)
    check = guesses.Guesses()
    for number in range(1000):
        for wrong in range(3):
            check.note(IPv6Address(number << 64), f"{number}/{wrong}", NOW)
            check.suspect(IPv6Address(number << 64), NOW)
            check.know(IPv6Address(number << 64), f"{wrong}")
    assert len(check._records) <= 100
    assert len(check._suspects) <= 100
    assert len(check._known) <= 100
    assert all(len(record.wrong) <= guesses.GUESSES for record in check._records.young.values())
