"""Objects with very many values: told apart, bounded where they are written, and read as they are stored."""

from __future__ import annotations

import json
import random
import time

import pytest

from dnsvip.errors import InvalidSite
from dnsvip.site import Pool
from dnsvip.site.clients import MOST_MATCHES
from dnsvip.site.declare import bounded, declared
from dnsvip.site.long_json import SLICE, dumped
from dnsvip.site.plain import check_counts, dump, parse
from dnsvip.site.registry import KINDS
from dnsvip.site.size import FEW, is_large


def client_with(number: int) -> dict[str, object]:
    return {"id": 1, "tier": "gold", "match": [{"listener": f"l{n}"} for n in range(number)]}


def test_large() -> None:
    """What has more than a few values is large, however deep they are, and a long text is; None is not."""
    assert not is_large(None, parse("client", "a", client_with(20)))
    assert is_large(parse("client", "a", client_with(FEW)))
    assert is_large(parse("zone", "a.test", {"text": "a" * 20_000}))
    assert is_large({"a": {"b": [[1]] * FEW}})
    assert not is_large({"a": "b", "c": [1, 2]})
    huge = {"match": [{}] * 10_000_000}
    begun = time.thread_time()
    assert is_large(huge)
    assert time.thread_time() - begun < 0.01


def test_too_many_entries() -> None:
    """A list with more entries than it may have is refused by its name, before any of them is looked at, however wrong;
    where as many are there already it stays."""
    wrong = {"id": 1, "tier": "gold", "match": [{}] * 100_000}
    begun = time.thread_time()
    with pytest.raises(InvalidSite) as refused:
        parse("client", "a", wrong)
    assert time.thread_time() - begun < 0.01
    assert [str(problem) for problem in refused.value.problems] == [
        f"client.a.match: must have at most {MOST_MATCHES} entries (it has 100000)"
    ]
    large = client_with(MOST_MATCHES + 2)
    before = parse("client", "a", large, counted=True)
    check_counts("client", "a", large, before)
    check_counts("client", "a", client_with(MOST_MATCHES + 1), before)
    with pytest.raises(InvalidSite):
        check_counts("client", "a", client_with(MOST_MATCHES + 3), before)


@pytest.mark.parametrize("kind", KINDS)
def test_every_list_has_a_bound(kind: str) -> None:
    """Of each kind every list and table of its own has a bound, where its type has none."""
    for model in KINDS[kind].classes:
        ours = {path[0] for path, _ in bounded(model)}
        fields = declared(model)
        lists = {name for name, field in fields.items() if field.many or field.mapping}
        checked = {"attributes"}  # by the form of their type
        assert {name for name in lists - ours if "max_length" not in repr(fields[name].hint)} <= checked, model


def test_a_nested_list() -> None:
    """A list in a table has its own bound and name."""
    with pytest.raises(InvalidSite, match=r"zone\.a\.test\.transfer\.to: must have at most 1024 entries"):
        parse("zone", "a.test", {"text": "", "transfer": {"to": ["192.0.2.0/24"] * 1025}})


def test_servers() -> None:
    """A pool's servers are bounded."""
    pool = parse("pool", "a", {"servers": [{"name": f"s{n}", "address": f"2001:db8::{n + 1:x}"} for n in range(4096)]})
    assert isinstance(pool, Pool)
    servers = [*dump(pool)["servers"], {"name": "x", "address": "::1"}]
    with pytest.raises(InvalidSite, match=r"pool\.a\.servers: must have at most 4096 entries \(it has 4097\)"):
        parse("pool", "a", {"servers": servers})


def test_long_texts_are_written_like_others() -> None:
    """JSON of long texts, escapes and all, is that of the library."""
    dice = random.Random(11)
    text = "".join(dice.choices('a"\\\n\x00\x7fäé😀\u2028', k=3 * SLICE))
    data = {"b": text, "a": [1, {"c": text}], "ü": "short", "d": None, "e": text[:SLICE]}
    for ascii_ in (False, True):
        for sort in (False, True):
            for separators in ((",", ":"), (", ", ": ")):
                wanted = json.dumps(data, ensure_ascii=ascii_, sort_keys=sort, separators=separators)
                assert dumped(data, ensure_ascii=ascii_, sort_keys=sort, separators=separators) == wanted
