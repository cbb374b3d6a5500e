"""What the API says of changes that do nothing: a header where they are taken, a refusal where they are not."""

from __future__ import annotations

import json

from tests.admin.conftest import Api
from tests.admin.test_refusals import check


async def test_addresses_at_a_service_name_are_warned_of(api: Api) -> None:
    """An AAAA record at a service's name is never served: the answer says so, with the service's name."""
    record = {"name": "www.example.test.", "type": "AAAA", "ttl": 60, "changetype": "REPLACE"}
    body = {"rrsets": [{**record, "records": [{"content": "2001:db8::7"}]}]}
    answer = await api("PATCH", "servers/localhost/zones/example.test.", body)
    assert answer.status == 204
    assert "service.www.example.test" in answer.headers["Dnsvip-Warning"]
    elsewhere = {"rrsets": [{**record, "name": "other.example.test.", "records": [{"content": "2001:db8::7"}]}]}
    body["rrsets"][0] |= {"changetype": "DELETE", "records": []}
    await api("PATCH", "servers/localhost/zones/example.test.", body)
    answer = await api("PATCH", "servers/localhost/zones/example.test.", elsewhere)
    assert "Dnsvip-Warning" not in answer.headers


async def test_an_attribute_that_nothing_carries(api: Api) -> None:
    """A client with an attribute that no layout carries is warned of once, when it gets it."""
    body = {"id": 77, "tier": "gold", "attributes": {"shoe": "left"}}
    answer = await api("PUT", "clients/odd", body)
    assert answer.status == 201
    told = json.loads(f"[{','.join(answer.headers.getall('Dnsvip-Warning'))}]")
    assert len(told) == 1
    assert "client.odd.attributes.shoe: no cluster's layout has a field 'shoe'" in told[0]
    assert "Dnsvip-Warning" not in (await api("PATCH", "clients/odd", {"tier": "standard"})).headers


async def test_notify_is_not_pretended(api: Api) -> None:
    """NOTIFY by request is answered 501, as none is sent."""
    answer = await api("PUT", "servers/localhost/zones/example.test./notify")
    assert (answer.status, answer.json["type"].rpartition(":")[2]) == (501, "not-implemented")


async def test_an_enrolment_needs_a_server(api: Api) -> None:
    """An enrolment without a DNS server to query is refused where it is made."""
    empty: list[dict[str, list[str]]] = [{}, {"servers": []}]
    for body in empty:
        answer = await api("POST", "clients/acme/enrolment", body)
        check(answer, "invalid")
        assert "at least one DNS server" in answer.text
