"""Names of sessions by the API."""

from __future__ import annotations

from dnsvip.site.session_rules import session_labels, session_services
from tests.admin.conftest import Api


async def test_names_are_made(api: Api) -> None:
    """Each is new, and one that DNS takes; a service without sessions has none."""
    refused = await api("POST", "sessions", {"service": "www.example.test"})
    assert (refused.status, refused.json["errors"][0]["where"]) == (422, "session.service")
    layout = [["tier", 4], ["client", 14], ["session", 12], ["nonce", 7]]
    assert (await api("PATCH", "clusters/web", {"layout": layout, "values": {"lang": None}})).status == 200
    made = await api("PUT", "services/*.s.example.test", {"cluster": "web", "session": "label"})
    assert made.status == 201, made.json
    api.snapshots.append(await api.store.snapshots.load())
    answers = [await api("POST", "sessions", {"service": "*.S.example.test"}) for _ in range(3)]
    assert [answer.status for answer in answers] == [201] * 3
    assert answers[0].headers["Cache-Control"] == "no-store"
    assert len({answer.json["name"] for answer in answers}) == 3
    ((service, cluster),) = session_services(api.snapshots[-1].site)
    labels = session_labels(api.snapshots[-1], service, cluster)
    for answer in answers:
        label, _, rest = answer.json["name"].partition(".")
        assert rest == "s.example.test"
        assert labels.number(label.encode()) is not None
