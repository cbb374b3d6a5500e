"""Rows: every object reads back equal, and an invalid row is named."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsvip.address.proof import Bind
from dnsvip.errors import StoreError
from dnsvip.site import Client, ClientState, Match, Proof, Site, Step
from dnsvip.site.plain import SiteObject, collection, dump, parse
from dnsvip.site.registry import COLLECTIONS, SINGLE
from dnsvip.store import KeyEncryptionKey
from dnsvip.store.objects.rows import from_row, to_row

KEK = KeyEncryptionKey(bytes(32), "test")

CLIENTS = st.builds(
    Client,
    name=st.just("c"),
    id=st.integers(1, (1 << 63) - 1),
    tier=st.sampled_from(["gold", "standard"]),
    match=st.lists(
        st.builds(Match, st.sampled_from([Step.TOKEN, Step.LISTENER]), st.text(min_size=1))
        | st.builds(Match, st.just(Step.GEO), st.sampled_from(["country:DE", "continent:EU", "asn:64500"]))
        | st.builds(
            Match, st.sampled_from([Step.SOURCE, Step.ECS]), st.sampled_from(["192.0.2.0/24", "2001:db8::/48"])
        ),
        unique=True,
    ).map(tuple),
    proof=st.builds(Proof, st.sampled_from(Bind), st.booleans(), st.booleans()),
    attributes=st.dictionaries(st.text(), st.text() | st.integers(0, 1 << 53)),
    state=st.sampled_from(ClientState),
    key_generation=st.integers(0, (1 << 32) - 1),
)


def _round_trip(kind: str, name: str, site_object: SiteObject) -> SiteObject:
    return from_row(kind, SimpleNamespace(**to_row(kind, name, site_object, KEK)), KEK)


@given(CLIENTS)
def test_clients_come_back(client: Client) -> None:
    """A client read from its row equals the one written and the one the general parser reads."""
    back = _round_trip("client", "c", client)
    assert back == client == parse("client", "c", dump(client))
    assert repr(back) == repr(client)


def test_every_kind_comes_back(site: Site) -> None:
    """Each object of the example site reads back equal."""
    for kind in COLLECTIONS:
        for name, site_object in collection(site, kind).items():
            assert _round_trip(kind, name, site_object) == site_object
    assert _round_trip(SINGLE, "", site.classify) == site.classify


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("client", "{}"),
        ("client", "nonsense"),
        ("client", '{"match": [], "proof": {"bind": "x", "single_use": false, "required": false}}'),
        ("tier", "{}"),
        ("tsig", '{"secret": 5}'),
        ("cluster", '{"prefix": "x"}'),
    ],
)
def test_rows_that_cannot_be_read_are_named(kind: str, spec: Any) -> None:
    """An invalid row raises StoreError with its location."""
    row = SimpleNamespace(name="n", spec=spec, secret=KEK.wrap(b"s", f"{kind}/n".encode()))
    with pytest.raises(StoreError, match=rf"the row of {kind}\.n cannot be read"):
        from_row(kind, row, KEK)
