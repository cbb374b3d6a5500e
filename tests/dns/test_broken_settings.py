"""A cookie secret, a step of `classify.order` or a trusted resolver that makes code raise stops no answer, is
named, and gives nobody a better tier."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import dns.edns
import dns.message
import pytest

from dnsvip.dns.engine import Engine
from dnsvip.dns.identity.arrival import Arrival, Transport
from dnsvip.dns.identity.identify import Classifier, Ecs, Requester
from dnsvip.site import Snapshot, Step
from dnsvip.site.site_file import build_site
from tests.samples import NOW, TABLES, snapshot_of

SECRETS = (b"a" * 16, b"n" * 16, b"p" * 16)
SITE = {
    **{kind: TABLES[kind] for kind in ("cluster", "tier", "pool")},
    "zone": {"example.test": {"text": "$TTL 60\n@ SOA ns h 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\n"}},
    "tsig": {"strong": {"secret": "c2VjcmV0LXNlY3JldA=="}},
    "client": {
        "signed": {"id": 1, "tier": "gold", "match": [{"tsig": "strong"}]},
        "claimed": {"id": 2, "tier": "standard", "match": [{"ecs": "203.0.113.0/24"}]},
        "near": {"id": 3, "tier": "gold", "match": [{"source": "192.0.2.0/24"}]},
    },
}
RESOLVER = ip_address("192.0.2.53")


def snapshot(**classify: Any) -> Snapshot:
    site = build_site({**SITE, "classify": {"trust_ecs_from": ["192.0.2.0/24"]}})
    return snapshot_of(replace(site, classify=replace(site.classify, **classify)))


def ask(engine: Engine) -> dns.message.Message:
    query = dns.message.make_query(
        "ns.example.test", "A", use_edns=0, options=[dns.edns.GenericOption(10, b"12345678")]
    )
    reply = engine.decide(query.to_wire(), RESOLVER, Arrival("default", Transport.UDP), NOW)
    assert reply.wire is not None
    return dns.message.from_wire(reply.wire)


@pytest.mark.parametrize("secret", [b"", b"short", None])
@pytest.mark.parametrize(("place", "cookies"), [(0, 0), (1, 1), (2, 1)])
def test_a_broken_cookie_secret(place: int, cookies: int, secret: Any) -> None:
    """Answers go on: without a cookie where the active secret is broken, with one of the others where it is not; also
    where cookies are required."""
    secrets = (*SECRETS[:place], secret, *SECRETS[place + 1 :])
    engine = Engine(replace(snapshot(), cookie_secrets=secrets), require_cookies=cookies == 0)
    answer = ask(engine)
    assert len(answer.answer) == 1
    assert len(answer.options) == cookies
    assert [problem.where for problem in engine.problems] == [f"cookies.{place}"]
    assert Engine(replace(snapshot(), cookie_secrets=SECRETS), engine).problems == []


def who(classifier: Classifier, **known: Any) -> str | None:
    client = classifier.classify(Requester(RESOLVER, **known)).client
    return client.name if client else None


ECS = Ecs(ip_address("203.0.113.7"), 24)


@pytest.mark.parametrize("bad", ["telepathy", [], None])
def test_a_broken_step_ends_the_order(bad: Any) -> None:
    """Whom a step before the broken one identifies is still identified; nobody is identified by a weaker one, so that
    a client of a lesser tier does not become one of a better tier."""
    sound = Classifier(snapshot(order=(Step.TSIG, Step.ECS, Step.SOURCE)))
    assert [who(sound, tsig="strong"), who(sound, ecs=ECS), who(sound)] == ["signed", "claimed", "near"]
    broken = Classifier(snapshot(order=(Step.TSIG, bad, Step.ECS, Step.SOURCE)), sound)
    assert [who(broken, tsig="strong"), who(broken, ecs=ECS), who(broken)] == ["signed", None, None]
    assert [problem.where for problem in broken.problems] == ["classify.order"]
    assert "default tier" in broken.problems[0].message
    assert who(Classifier(snapshot(), broken)) == "near"


def test_broken_trust_ends_the_order_before_ecs() -> None:
    """Without knowing whose ECS to believe, nobody behind a resolver is taken for the resolver itself."""
    engine = Engine(snapshot(order=(Step.TSIG, Step.ECS, Step.SOURCE), trust_ecs_from=(object(),)))
    classifier = engine.tables.classifier
    assert [who(classifier, tsig="strong"), who(classifier, ecs=ECS), who(classifier)] == ["signed", None, None]
    assert [problem.where for problem in engine.problems] == ["classify.trust_ecs_from"]
    assert len(ask(engine).answer) == 1
