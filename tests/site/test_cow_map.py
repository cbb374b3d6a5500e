"""The copy-on-write map: changes copy one shard, and two maps can be compared."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dnsvip.site.cow_map import CowMap, difference

KEYS = st.text("abc", max_size=3)
ENTRIES = st.dictionaries(KEYS, st.integers(0, 3))


@given(ENTRIES, st.lists(st.tuples(st.lists(KEYS), ENTRIES), max_size=4))
def test_changes_as_a_dict_does(first: dict[str, int], changes: list[tuple[list[str], dict[str, int]]]) -> None:
    """After any changes it equals a dict with the same changes, and the previous map is unchanged."""
    plain, shards = dict(first), CowMap(first.items())
    for gone, put in changes:
        before, old = dict(plain), shards
        shards = old.changed(gone, put.items())
        plain = {key: value for key, value in plain.items() if key not in gone} | put
        assert shards == plain
        assert old == before
        assert len(shards) == len(plain)
        assert sorted(shards.values()) == sorted(plain.values())
        assert all(shards.get(key) == plain.get(key) and (key in shards) == (key in plain) for key in "abc")
        expected = {
            (key, before.get(key), plain.get(key)) for key in before | plain if before.get(key) != plain.get(key)
        }
        assert set(difference(old, shards)) == expected
        assert set(difference(before, shards)) == set(difference(old, plain)) == expected


def test_a_change_shares_the_rest() -> None:
    """Changing one entry of many copies one shard."""
    old = CowMap((str(number), number) for number in range(20_000))
    new = old.changed([], [("7", -7)])
    assert sum(a is not b for a, b in zip(old._shards, new._shards, strict=True)) == 1
    assert list(difference(old, new)) == [("7", 7, -7)]
