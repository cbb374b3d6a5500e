"""DNS tokens by the API: minted, given to a client, replaced, used, removed; who may."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace

from dnsvip.dns.identity.tokens import TOKEN
from tests.admin.conftest import Api


def digest(text: str) -> str:
    """What the site has of a token."""
    return hashlib.sha256(text.encode()).hexdigest()


async def test_a_token_is_minted_for_a_client(api: Api) -> None:
    """One request makes a token and gives it to a client; its text is in that answer alone, in no other and no audit
    row."""
    answer = await api("POST", "dns-tokens/acme-phone/mint", {"client": "acme"})
    assert (answer.status, answer.headers["Cache-Control"]) == (201, "no-store")
    text = answer.json["token"]
    assert TOKEN.fullmatch(text)
    assert answer.headers["Location"] == "/api/v1/dns-tokens/acme-phone"
    stored = await api.ok("GET", "dns-tokens/acme-phone")
    assert stored == {"name": "acme-phone", "digest": digest(text), "previous": None, "previous_until": None}
    assert {"token": "acme-phone"} in (await api.ok("GET", "clients/acme"))["match"]
    everything = [await api.ok("GET", path) for path in ("dns-tokens", "audit", "clients/acme")]
    assert text not in json.dumps(everything)
    assert [item["name"] for item in (await api.ok("GET", "dns-tokens?client=acme"))["items"]] == ["acme-phone"]
    assert (await api.ok("GET", "dns-tokens?client=newsreader"))["items"] == []


async def test_what_is_refused_when_a_token_is_minted(api: Api) -> None:
    """One that exists, a client that does not, a name that is none: nothing is made."""
    await api.ok("POST", "dns-tokens/one/mint")
    for path, body, status in (
        ("one", {}, 409),
        ("two", {"client": "nobody"}, 404),
        ("two", {"client": 5}, 422),
        ("two", {"other": 5}, 422),
        ("-two", {}, 422),
    ):
        assert (await api("POST", f"dns-tokens/{path}/mint", body)).status == status, (path, body)
    assert [item["name"] for item in (await api.ok("GET", "dns-tokens"))["items"]] == ["one"]


async def test_a_text_is_replaced_with_both_good_for_a_while(api: Api) -> None:
    """A rotation keeps the text before for a week, or as long as asked for; without it that ends at once."""
    first = (await api.ok("POST", "dns-tokens/acme/mint"))["token"]
    second = await api.ok("POST", "dns-tokens/acme/rotate")
    assert (second["digest"], second["previous"]) == (digest(second["token"]), digest(first))
    now = second["previous_until"] - 7 * 86_400
    third = await api.ok("POST", "dns-tokens/acme/rotate", {"overlap": 60})
    assert (third["previous"], third["previous_until"] - now <= 3600) == (second["digest"], True)
    fourth = await api.ok("POST", "dns-tokens/acme/rotate", {"overlap": 0})
    assert (fourth["previous"], fourth["previous_until"]) == (None, None)
    assert (await api("POST", "dns-tokens/acme/rotate", {"overlap": -1})).status == 422
    assert (await api("POST", "dns-tokens/nobody/rotate")).status == 404


async def test_a_digest_of_another_token_is_refused(api: Api) -> None:
    """Who knows the digest of a token, which is no secret, cannot make it another's; nor as the text before."""
    held = (await api.ok("POST", "dns-tokens/acme/mint"))["digest"]
    await api.ok("POST", "dns-tokens/acme/rotate")
    for body in ({"digest": held}, {"digest": "ab" * 32, "previous": held}):
        answer = await api("PUT", "dns-tokens/thief", body)
        assert (answer.status, answer.json["errors"][0]["where"]) == (422, "dns_token.thief.digest"), answer.text
    answer = await api("PUT", "dns-tokens/thief", {"digest": "no digest"})
    assert (answer.status, answer.json["errors"][0]["where"]) == (422, "dns_token.thief.digest")


async def test_a_token_in_use_stays(api: Api) -> None:
    """A client's match must name a token that exists, and one that a client has is not removed."""
    answer = await api("PATCH", "clients/newsreader", {"match": [{"token": "nobody"}]})
    assert answer.status == 422
    assert "'nobody' is not a dns_token of this site" in answer.text
    await api.ok("POST", "dns-tokens/news/mint", {"client": "newsreader"})
    answer = await api("DELETE", "dns-tokens/news")
    assert answer.status == 409
    assert "client.newsreader" in answer.text
    await api.ok("PATCH", "clients/newsreader", {"match": []})
    assert (await api("DELETE", "dns-tokens/news")).status == 204


async def test_when_a_token_was_last_used(api: Api) -> None:
    """The latest use that any node reported, of the text and the one before; what is unknown leaves no trace, and a
    removed token none."""
    first = (await api.ok("POST", "dns-tokens/acme/mint"))["digest"]
    assert await api.ok("GET", "dns-tokens/acme/use") == {"used_at": None, "previous_used_at": None}
    second = (await api.ok("POST", "dns-tokens/acme/rotate"))["digest"]
    uses = api.store.dns_token_uses
    await uses.add({first: 500.0, "ff" * 32: 1.0})
    await uses.add({first: 400.0, second: 600.0})
    assert await api.ok("GET", "dns-tokens/acme/use") == {"used_at": 600.0, "previous_used_at": 500.0}
    (listed,) = (await api.ok("GET", "dns-tokens"))["items"]
    assert (listed["used_at"], listed["previous_used_at"]) == (600.0, 500.0)
    assert await uses.of(["ff" * 32]) == {}
    await api.ok("DELETE", "dns-tokens/acme")
    await uses.add({first: 700.0})
    assert await uses.of([first, second]) == {}
    assert (await api("GET", "dns-tokens/acme/use")).status == 404


async def test_who_may_mint(api: Api) -> None:
    """Tokens are bounded by the patterns of TSIG keys; to give one to a client takes the right to write both."""
    scopes = [
        {"actions": ["read", "write"], "kinds": ["dns_token"], "tsig": ["shop-*"]},
        {"actions": ["write"], "kinds": ["client"], "clients": ["news*"]},
    ]
    made = await api.ok("POST", "tokens", {"name": "narrow", "scopes": scopes})
    narrow = replace(api, token=made["token"])
    assert (await narrow("POST", "dns-tokens/shop-1/mint", {"client": "newsreader"})).status == 201
    for path, body in (
        ("dns-tokens/acme/mint", {}),
        ("dns-tokens/shop-2/mint", {"client": "acme"}),
        ("dns-tokens/acme/rotate", {}),
    ):
        answer = await narrow("POST", path, body)
        assert answer.status == 403, (path, answer.text)
    await api.ok("POST", "dns-tokens/gold/mint")
    answer = await narrow("PATCH", "clients/newsreader", {"match": [{"token": "gold"}]})
    assert answer.status == 403
    assert re.search(r"lacks the scope write:dns_token tsig=gold", answer.text)
    reader = await api.ok(
        "POST", "tokens", {"name": "reader", "scopes": [{"actions": ["read"], "kinds": ["dns_token"]}]}
    )
    assert (await replace(api, token=reader["token"])("GET", "dns-tokens?client=acme")).status == 403
