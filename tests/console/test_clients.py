from __future__ import annotations

import json
import sqlite3
from ipaddress import ip_address

from playwright.sync_api import Page, expect

from tests.console.conftest import Open
from tests.console.site import CLIENTS, Site
from tests.node.serving import within


def names(page: Page) -> list[str]:
    return page.locator("tbody a.lead").all_inner_texts()


def test_looking_for_clients(visit: Open) -> None:
    """By the beginning of a name, by tier and state, by an address that a client is known by; the search is a link."""
    page = visit("clients")
    page.get_by_label("Name begins with").fill("client-01")
    expect(page.locator("tbody tr")).to_have_count(10)
    page.get_by_label("Tier").select_option("gold")
    expect(page.locator("tbody tr")).to_have_count(2)
    assert names(page) == ["client-012", "client-016"]
    page.reload()
    expect(page.locator("tbody tr")).to_have_count(2)
    page.get_by_label("Name begins with").fill("")
    page.get_by_label("Tier").select_option("")
    page.get_by_label("Match").fill("10.0.77.9")
    expect(page.locator("tbody tr")).to_have_count(1)
    assert names(page) == ["client-077"]
    page.get_by_label("Match").fill("192.0.2.200")
    expect(page.get_by_text("Nothing matches")).to_be_visible()


def test_pages_and_order(visit: Open) -> None:
    """Pages follow one another in the order asked for, forth and back, and hold every client once."""
    page = visit("clients?limit=50")
    seen: list[str] = []
    for number in (1, 2, 3):
        expect(page.get_by_text(f"Page {number},")).to_be_visible()
        seen += names(page)
        if number < 3:
            page.click("[data-action=next]")
    assert len(seen) == len(set(seen)) == CLIENTS + 2
    assert seen == sorted(seen)
    expect(page.locator("[data-action=next]")).to_be_disabled()
    page.click("[data-action=back]")
    expect(page.get_by_text("Page 2,")).to_be_visible()
    page.get_by_role("button", name="Id").click()
    expect(page.locator("tbody tr").first).to_contain_text("1001")
    page.get_by_role("button", name="Id").click()
    expect(page.locator("tbody tr").first).to_contain_text(str(1999 + CLIENTS))


def test_moving_a_client_changes_its_answers(visit: Open, at_work: Site) -> None:
    """A tier chosen in the form is in the next DNS answer, undo puts it back, and the history has both."""
    page = visit("clients/client-001")
    where = "10.0.1.9/32"
    decoded = lambda: at_work.node.curl("GET", f"decode?address={at_work.address(where)}")[1]["values"]["tier"]  # noqa: E731
    assert decoded() == 2
    page.get_by_label("Tier").select_option("gold")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("client-001 changed")).to_be_visible()
    within(10, lambda: decoded() == 1)
    expect(page.locator(".history")).to_contain_text("gold")
    page.click("[data-action=undo]")
    within(10, lambda: decoded() == 2)
    expect(page.locator(".history li")).to_have_count(3)


def test_errors_stand_at_their_fields(visit: Open, at_work: Site) -> None:
    """What the API refuses is said at the field it is about, and nothing is changed."""
    page = visit("clients/client-100", log=False)
    before = at_work.node.curl("GET", "clients/client-100")[1]
    page.get_by_role("button", name="Add to match").click()
    page.locator("[data-path=match]").get_by_label("Value").last.fill("10.0.100.0/99")
    page.get_by_label("Id").fill("0")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("[data-path=match] [data-path='1'] > .error")).not_to_be_empty()
    expect(page.locator("[data-path=id] > .error")).not_to_be_empty()
    expect(page.get_by_label("Id")).to_have_attribute("aria-invalid", "true")
    page.get_by_label("Id").fill("1001")
    page.locator("[data-path=match]").get_by_label("Value").last.fill("10.99.0.0/24")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("[data-path=id] > .error")).to_contain_text("acme")
    assert at_work.node.curl("GET", "clients/client-100")[1] == before


def test_somebody_else_was_quicker(visit: Open, at_work: Site) -> None:
    """A form that shows an older state overwrites nothing."""
    page = visit("clients/client-101", log=False)
    page.get_by_label("Id").fill("99101")
    assert at_work.node.curl("PATCH", "clients/client-101", {"attributes": {"lang": "en"}})[0] == 200
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#client-form .form-error")).to_contain_text("Somebody else has changed")
    assert at_work.node.curl("GET", "clients/client-101")[1]["id"] == 2101


def test_a_client_from_first_to_last(visit: Open, at_work: Site) -> None:
    """Made, disabled and enabled again, given a new key, enrolled, revoked, removed: each as the API then says."""
    page = visit("clients/new?make=1")
    page.locator("#page, dialog").get_by_label("Name").fill("browser-made")
    page.get_by_label("Id").fill("77000")
    page.get_by_label("Tier").select_option("gold")
    page.get_by_role("button", name="Add to match").click()
    page.locator("[data-path=match]").get_by_label("Value").fill("10.77.0.0/16")
    page.get_by_role("button", name="Create").click()
    expect(page.locator("h1")).to_have_text("browser-made")
    look = lambda: at_work.node.curl("GET", "clients/browser-made")[1]  # noqa: E731
    assert (look()["id"], look()["match"]) == (77000, [{"source": "10.77.0.0/16"}])

    def does(button: str, said: str, *, end_flows: bool = True) -> None:
        page.get_by_role("button", name=button, exact=True).click()
        if not end_flows:
            page.get_by_label("End its connections too").uncheck()
        page.click("[data-action=confirm]")
        expect(page.get_by_text(said)).to_be_visible()

    does("Disable", "browser-made disabled", end_flows=False)
    assert (look()["state"], look()["end_flows"]) == ("disabled", False)
    does("Enable", "browser-made enabled")
    first = look()["key_generation"]  # above those of all clients that are gone
    does("New key", "has a new key")
    assert (look()["state"], look()["key_generation"]) == ("enabled", first + 1)
    page.get_by_role("button", name="Enrolment").click()
    page.get_by_label("DNS servers to query").fill("[2001:db8::53]:53")
    with page.expect_download() as loading:
        page.get_by_role("button", name="Download").click()
    enrolment = json.loads(loading.value.path().read_text())
    assert enrolment["client"] == "browser-made"
    assert enrolment["clusters"][0]["proof"]["key_generation"] == first + 1
    does("Revoke", "browser-made revoked")
    assert (look()["state"], look()["end_flows"]) == ("revoked", True)
    page.wait_for_load_state()  # what the page reads about a client that is gone by then would be in its log
    page.get_by_role("button", name="Remove client").click()
    page.click("[data-action=confirm]")
    expect(page.locator("h1")).to_have_text("Clients")
    assert at_work.node.curl("GET", "clients/browser-made")[0] == 404


def test_an_address_taken_apart(visit: Open, at_work: Site) -> None:
    """A real answer, pasted into the search: its bits by field, its values, each step; one bit off is dropped."""
    page = visit()
    address = at_work.address()
    page.fill("#find", address)
    page.keyboard.press("Enter")
    expect(page.locator(".verdict")).to_contain_text("Accepted as issued")
    assert page.locator(".bit").all_inner_texts() == list(f"{int(ip_address(address)):0128b}")
    sizes = {name: page.locator(f".bit.f-{name}").count() for name in ("prefix", "mode", "epoch", "cipher", "tag")}
    assert sizes == {"prefix": 64, "mode": 1, "epoch": 2, "cipher": 37, "tag": 24}
    told = at_work.node.curl("GET", f"decode?address={address}")[1]
    values = [text.split()[0] for text in page.locator(".payload-value").all_inner_texts()]
    assert values == [str(told["values"][name]) for name in ("tier", "client", "lang", "expiry", "nonce")]
    assert page.locator(".steps li").count() == len(told["steps"])
    expect(page.locator(".steps")).to_contain_text("acme is enabled")
    page.get_by_label("Address", exact=True).fill(str(ip_address(int(ip_address(address)) ^ 1)))
    page.keyboard.press("Enter")
    expect(page.locator(".verdict")).to_contain_text("Invalid, dropped as bad-tag")
    expect(page.locator(".verdict")).to_contain_text("tag bits do not fit")
    expect(page.locator(".steps li.bad").first).to_contain_text("tag")


def test_no_address(visit: Open) -> None:
    """What is no address is said at the field."""
    page = visit("address", log=False)
    page.get_by_label("Address", exact=True).fill("not an address")
    page.keyboard.press("Enter")
    expect(page.locator("[data-path=address] > .error")).to_contain_text("address")


def test_an_answer_explained(visit: Open) -> None:
    """The step that decides is marked, the record shown, and where the dispatcher would send a packet to it."""
    page = visit("explain?qname=www.example.test&source=127.0.0.1&ecs=198.51.100.7")
    expect(page.locator(".verdict")).to_contain_text("acme in tier gold")
    expect(page.locator(".steps li.good")).to_contain_text("ecs")
    expect(page.locator(".records")).to_contain_text("AAAA")
    expect(page.locator(".share")).to_contain_text("fast-1")
    page.get_by_role("link", name="Open in the address explorer").click()
    expect(page.locator(".verdict")).to_contain_text("Accepted")


def test_usage(visit: Open, at_work: Site) -> None:
    """What clients have used, the most bytes first; a column's title sorts by it, a name leads to the client."""
    at_work.node.curl("PUT", "clients/few-bytes", {"id": 88001, "tier": "gold"})
    at_work.node.curl("PUT", "clients/many-bytes", {"id": 88002, "tier": "gold"})
    with sqlite3.connect(at_work.folder / "dnsvip.db", timeout=30) as database:
        row = "INSERT INTO client_usage VALUES (?, 'away', ?, ?, 1, 0, 0, 0)"
        database.executemany(row, [(88001, 9_000_000, 1 << 50), (88002, 8_000_000, 1 << 51)])
    page = visit("usage")
    first = page.locator("tbody tr").first
    expect(first).to_contain_text("many-bytes")
    page.get_by_role("button", name="Packets").dblclick()  # up, then down, however long the list takes
    expect(first).to_contain_text("few-bytes")
    page.get_by_role("link", name="few-bytes").click()
    expect(page.locator("h1")).to_have_text("few-bytes")
    for name in ("few-bytes", "many-bytes"):
        at_work.node.curl("DELETE", f"clients/{name}")
