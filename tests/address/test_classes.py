"""IPv4 classes: each host number encodes one tier, and a tier's numbers are used in turn."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsvip.address.classes import ClassTable
from dnsvip.errors import CodecError


@st.composite
def tables(draw: st.DrawFn) -> tuple[ClassTable, dict[str, tuple[int, ...]]]:
    length = draw(st.integers(16, 29))
    network = IPv4Network((draw(st.integers(0, (1 << length) - 1)) << (32 - length), length))
    hosts = draw(st.sets(st.integers(2, min(network.num_addresses - 2, 3000)), min_size=1, max_size=5))
    names = draw(st.lists(st.sampled_from(["gold", "standard", "bulk"]), min_size=len(hosts), max_size=len(hosts)))
    classes: dict[str, tuple[int, ...]] = {}
    for host, name in zip(sorted(hosts), names, strict=True):
        classes[name] = (*classes.get(name, ()), host)
    return ClassTable(network, network.network_address + 1, classes), classes


@given(tables(), st.integers())
def test_decode_undoes_encode(table: tuple[ClassTable, dict[str, tuple[int, ...]]], spread: int) -> None:
    """Every address of a tier decodes to that tier, whichever number the spread picks."""
    subnet, classes = table
    for tier in classes:
        assert subnet.decode(subnet.encode(tier, spread)) == tier


@given(tables())
def test_spread_uses_every_number_and_nothing_else_decodes(
    table: tuple[ClassTable, dict[str, tuple[int, ...]]],
) -> None:
    """Successive spreads reach all numbers of a tier; network, broadcast and plain address decode to no tier."""
    subnet, classes = table
    base = int(subnet.prefix.network_address)
    for tier, hosts in classes.items():
        assert {subnet.encode(tier, i) - base for i in range(len(hosts))} == set(hosts)
    for address in (base, subnet.plain, int(subnet.prefix.broadcast_address)):
        assert subnet.decode(address) is None


def test_tier_without_numbers_gets_the_plain_address() -> None:
    """A tier missing from the table gets the plain address."""
    table = ClassTable(IPv4Network("192.0.2.0/28"), IPv4Address("192.0.2.1"), {"gold": (8, 9)})
    assert table.encode("bulk", 7) == int(IPv4Address("192.0.2.1"))


@pytest.mark.parametrize(
    ("prefix", "classes", "message"),
    [
        ("192.0.0.0/15", {"gold": (8,)}, "prefix length 15: must be 16 to 30"),
        ("192.0.2.0/31", {"gold": (8,)}, "prefix length 31: must be 16 to 30"),
        ("192.0.2.0/28", {"gold": (0,)}, "host number 0: must be 1 to 14"),
        ("192.0.2.0/28", {"gold": (15,)}, "host number 15: must be 1 to 14"),
        ("192.0.2.0/28", {"gold": (1,)}, "host number 1 of tier 'gold' is the plain address or used twice"),
        ("192.0.2.0/28", {"gold": (8,), "bulk": (8,)}, "host number 8 of tier 'bulk' is"),
        ("192.0.2.0/28", {"gold": ()}, "tier 'gold' has no host number"),
    ],
)
def test_wrong_tables_are_refused(prefix: str, classes: dict[str, tuple[int, ...]], message: str) -> None:
    """An unusable subnet or host number is refused; the error names it and the valid range."""
    network = IPv4Network(prefix, strict=False)
    with pytest.raises(CodecError, match=message):
        ClassTable(network, network.network_address + 1, classes)
