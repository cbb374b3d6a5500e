"""Server cookies: the examples of RFC 9018 appendix A, and what is taken when."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsvip.address.mac import siphash
from dnsvip.dns.protection.cookies import CookieCheck, Cookies, server_hash

SECRET = bytes.fromhex("e5e973e5a6b2a43f48e7dc849e37bfcf")
OLD = bytes.fromhex("dd3bdf9344b678b185a6f5cb60fca715")
NEW = bytes.fromhex("445536bcd2513298075a5d379663c962")
V6 = "2001:db8:220:1:59de:d0f4:8769:82b8"
ISSUED = 1559731985
CLIENT = "2464c4abcf10c957"
GIVEN = CLIENT + "010000005cf79f111f8130c3eee29480"

now_s = st.integers(0, 2**33)
clients = st.binary(min_size=8, max_size=8)
addresses = st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)


def check(secrets: tuple[bytes, ...], address: str, option: str, now: float) -> tuple[bool, str]:
    valid, answer = Cookies(secrets).check_at(bytes.fromhex(option), ip_address(address).packed, int(now))
    return valid, answer.hex()


@pytest.mark.parametrize(
    ("data", "digest"),
    [
        (b"", "310e0edd47db6f72"),
        (bytes(range(7)), "37d1018bf50002ab"),
        (bytes(range(8)), "6224939a79f5f593"),
        (bytes(range(15)), "e545be4961ca29a1"),  # the example in their paper is this one
    ],
)
def test_siphash_vectors(data: bytes, digest: str) -> None:
    """The hash gives the values of its authors' reference implementation."""
    assert server_hash(bytes(range(16)), data).hex() == digest


@pytest.mark.parametrize(
    ("secrets", "address", "option", "now", "valid", "answer"),
    [
        ((SECRET,), "198.51.100.100", CLIENT, ISSUED, False, GIVEN),
        ((SECRET,), "198.51.100.100", GIVEN, 1559734385, True, CLIENT + "010000005cf7a871d4a564a1442aca77"),
        (
            (SECRET,),
            "203.0.113.203",
            "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5",
            1559734700,
            False,  # nearly two hours old: replaced, as the example has it, but no proof any more
            "fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e",
        ),
        (
            (NEW, OLD),
            V6,
            "22681ab97d52c298010000005cf7c57926556bd0934c72f8",
            1559741961,
            True,
            "22681ab97d52c298010000005cf7c609a6bb79d16625507a",
        ),
    ],
    ids=["A.1", "A.2", "A.3", "A.4"],
)
def test_rfc9018_appendix(
    secrets: tuple[bytes, ...], address: str, option: str, now: int, valid: bool, answer: str
) -> None:
    """Each example of RFC 9018 appendix A is answered with the cookie it shows."""
    assert check(secrets, address, option, now) == (valid, answer)


def test_reserved_bytes_are_hashed_as_they_came() -> None:
    """The cookie of appendix A.3, which has reserved bytes, proves its address while it is fresh."""
    option = "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5"
    assert check((SECRET,), "203.0.113.203", option, 0x5CF78F71 + 60) == (True, option)


@pytest.mark.parametrize(
    ("age", "valid", "kept"),
    [
        (-301, False, False),
        (-300, True, True),
        (0, True, True),
        (1799, True, True),
        (1800, True, False),
        (3600, True, False),
        (3601, False, False),
    ],
)
def test_ages(age: int, valid: bool, kept: bool) -> None:
    """A cookie is taken from five minutes before its time to an hour after, and the same again for half an hour."""
    verdict, answer = check((SECRET,), "198.51.100.100", GIVEN, ISSUED + age)
    assert (verdict, answer == GIVEN) == (valid, kept)


@given(clients, addresses, now_s, st.integers(0, 1799))
def test_round_trip(client: bytes, address: bytes, now: int, later: int) -> None:
    """What was given out is taken back, even where the clock's 32 bits run over in between."""
    given_out = Cookies([SECRET]).check_at(client, address, now).answer
    assert Cookies([SECRET]).check_at(given_out, address, now + later) == CookieCheck(True, given_out)
    assert Cookies([NEW, SECRET]).check(given_out, address, now + later).valid


@given(clients, addresses, now_s, st.integers(0, 127))
def test_one_result_in_two_minutes(client: bytes, address: bytes, now: int, later: int) -> None:
    """Whoever is asked first, every process gives out the same cookie in a span of 128 seconds."""
    begin = now - now % 128
    given_out = Cookies([SECRET]).check(client, address, now)
    assert given_out == Cookies([SECRET]).check(client, address, begin + later)
    assert given_out == Cookies([SECRET]).check_at(client, address, begin)
    assert Cookies([SECRET]).check(given_out.answer, address, begin + later) == CookieCheck(True, given_out.answer)


@given(clients, addresses, now_s, st.integers(0, 23), st.integers(1, 255))
def test_any_changed_byte_is_noticed(client: bytes, address: bytes, now: int, at: int, change: int) -> None:
    """A cookie with one byte changed proves nothing and gets a fresh one for the client cookie it came with."""
    given_out = bytearray(Cookies([SECRET]).check(client, address, now).answer)
    given_out[at] ^= change
    checked = Cookies([SECRET]).check(bytes(given_out), address, now)
    assert not checked.valid
    assert Cookies([SECRET]).check(checked.answer, address, now) == CookieCheck(True, checked.answer)


@given(clients, addresses, addresses, st.sampled_from([8, 15, 17, 32]))
def test_others_cookies(client: bytes, address: bytes, other: bytes, length: int) -> None:
    """Cookies of another address, another secret or another server's length prove nothing."""
    given_out = Cookies([SECRET]).check(client, address, ISSUED).answer
    assert Cookies([SECRET]).check(given_out, other, ISSUED).valid == (other == address)
    assert not Cookies([NEW]).check(given_out, address, ISSUED).valid
    assert not Cookies([SECRET]).check((given_out + bytes(32))[: 8 + length], address, ISSUED).valid


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many cookies are checked, only so many are remembered."""
    monkeypatch.setattr("dnsvip.dns.protection.cookies._REMEMBERED", 16)
    cookies = Cookies([SECRET])
    for number in range(200):
        cookies.check(number.to_bytes(8, "big"), bytes(4), 0)
    assert len(cookies._known) <= 32


@pytest.mark.parametrize(("server", "most"), [(b"", 8), (b"\1\0\0\0" + ISSUED.to_bytes(4, "big") + bytes(8), 25)])
def test_a_fresh_cookie_costs_little(server: bytes, most: int) -> None:
    """A cookie that has not been seen, which is looked at before its question's turn, costs a few hashes."""
    options = [os.urandom(8) + server for _ in range(2000)]
    hashing = fastest(lambda option: siphash(SECRET, option), options)
    cookies = [Cookies((NEW, OLD, SECRET)) for _ in range(5)]
    assert fastest(lambda option: cookies[-1].check(option, bytes(4), ISSUED), options, cookies.pop) < most * hashing


def fastest(call: Callable[[bytes], object], options: list[bytes], after: Callable[[], object] = list) -> float:
    """Seconds of processor time for all, of a few attempts the shortest."""
    times = []
    for _ in range(4):
        begin = time.thread_time()
        for option in options:
            call(option)
        times.append(time.thread_time() - begin)
        after()
    return min(times)
