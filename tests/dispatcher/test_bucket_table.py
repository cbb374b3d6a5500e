"""Buckets of one client or source each: bounded, found again, and reused once they are full."""

from __future__ import annotations

from dnsvip.dispatcher.bucket_table import WAYS, BucketTable, Kind, holder_of, keyed_hash, sets_for
from dnsvip.dispatcher.packet import parse
from tests.dispatcher.build import PLAIN, PLAIN4, segment

LABEL = (Kind.CLIENT, "gold")
KEY = (0x0123_4567_89AB_CDEF, 0xFEDC_BA98_7654_3210)


def test_found_again() -> None:
    """A holder has the same bucket each time, another one for another tier."""
    table = BucketTable(64, KEY)
    bucket = table.find(7, LABEL, 0)
    assert bucket is not None
    bucket.full[0] = 100
    assert table.find(7, LABEL, 50) is bucket
    assert table.find(7, (Kind.CLIENT, "silver"), 50) is not bucket


def test_pressure() -> None:
    """Where every bucket of a set owes tokens a new holder gets none, until one of them is full again."""
    table = BucketTable(1, KEY)
    assert table.bound == WAYS
    for number in range(WAYS):
        bucket = table.find(number, LABEL, 0)
        assert bucket is not None
        bucket.full[number % 2] = 100 + number
    assert (table.find(99, LABEL, 99), table.shared, table.used(99)) == (None, 1, WAYS)
    assert table.find(0, LABEL, 99) is not None
    bucket = table.find(99, LABEL, 100)
    assert bucket is not None
    bucket.full[0] = 200
    assert table.used(100) == WAYS
    assert table.find(0, LABEL, 100) is None


def test_spread() -> None:
    """Clients with numbers in a row, and networks in a row, meet in few sets; another key meets elsewhere."""
    for step in (1, 1 << 16, 1 << 32):
        taken = {keyed_hash(number * step, KEY) & 1023 for number in range(1024)}
        assert len(taken) > 400, step
    assert [keyed_hash(n, KEY) & 1023 for n in range(8)] != [keyed_hash(n, (5, 9)) & 1023 for n in range(8)]


def test_sets() -> None:
    """There are at least as many buckets as asked for, in a power of two of sets."""
    assert [sets_for(bound) for bound in (1, 8, 9, 1024, 1025, 65_536)] == [1, 1, 2, 128, 256, 8192]


def test_holders() -> None:
    """A client holds by its id, an anonymous one or `by_source` by its /64 or /24."""

    def key(destination: int, source: int) -> bytes:
        packet = parse(segment(destination, source=source))
        assert hasattr(packet, "key")
        return packet.key

    six, four = key(PLAIN, 0x2001_0DB8_0077_0000 << 64 | 5), key(PLAIN4, 0xC633_6407)
    assert holder_of(1001, six, by_source=False) == (Kind.CLIENT, 1001)
    assert holder_of(0, six, by_source=False) == holder_of(1001, six, by_source=True)
    assert holder_of(0, six, by_source=False) == (Kind.SOURCE6, 0x2001_0DB8_0077_0000)
    assert holder_of(0, four, by_source=False) == (Kind.SOURCE4, 0xC6_3364)
