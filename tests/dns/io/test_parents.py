"""The parent of a zone is asked for its DS records before a rollover goes on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dnsvip.dns.io.parents import ParentLacks, check_parents
from dnsvip.site import Zone
from tests.dns.world import Running, world_snapshot
from tests.ports import free_port

OLD, NEW = f"1 13 2 {'AB' * 32}", f"2 13 2 {'CD' * 32}"


def parent(*records: str) -> Running:
    """A server of a zone that delegates child.parent.test with these DS records."""
    lines = ["@ 60 SOA ns h 1 1 1 1 1", "@ 60 NS ns", "ns 60 A 192.0.2.1", "child 60 NS ns.elsewhere.invalid."]
    text = "\n".join([*lines, *(f"child 60 DS {record}" for record in records)]) + "\n"
    world = world_snapshot()
    zones = {**world.site.zones, "parent.test": Zone("parent.test", text)}
    return Running(replace(world, site=replace(world.site, zones=zones)))


async def test_the_parent_has_them() -> None:
    """Exactly these, whatever the case and spaces of digests; one more or less is named."""
    with parent(NEW) as one, parent(OLD, NEW) as both, parent() as none:
        at = [("127.0.0.1", server.port) for server in (one, both, none)]
        await check_parents("child.parent.test", [NEW.lower().replace("cdcd", "cd cd", 1)], at[:1])
        with pytest.raises(ParentLacks, match=f"still has {OLD}"):
            await check_parents("child.parent.test", [NEW], at[:2])
        with pytest.raises(ParentLacks, match=f"lacks {OLD}"):
            await check_parents("child.parent.test", [OLD, NEW], at[:1])
        with pytest.raises(ParentLacks, match=f"lacks {NEW}"):
            await check_parents("child.parent.test", [NEW], at[2:])
        with pytest.raises(ParentLacks, match="answers REFUSED"):
            await check_parents("child.nowhere.invalid", [NEW], at[:1])


async def test_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is silent lacks them."""
    monkeypatch.setattr("dnsvip.dns.io.parents.SECONDS", 0.2)
    with pytest.raises(ParentLacks, match=r"does not answer: not within 0\.2 s"):
        await check_parents("child.parent.test", [NEW], [("127.0.0.1", free_port())])


async def test_many_records() -> None:
    """A server that has hundreds of others is told in few words: the warning is in each report of the node."""
    with parent(*(f"{n} 13 2 {'AB' * 32}" for n in range(200))) as many:
        with pytest.raises(ParentLacks, match="still has") as lacks:
            await check_parents("child.parent.test", [NEW], [("127.0.0.1", many.port)])
        assert len(str(lacks.value)) < 1200
