"""Four hundred servers: found, counted by condition, drained together and put back; a poll draws nothing anew."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.console.conftest import PHONE, Open
from tests.console.site import Site
from tests.console.test_look import flaws

POOLS, EACH = 8, 50


@pytest.fixture(scope="module")
def racks(at_work: Site) -> Iterator[list[str]]:
    """Pools of servers beside those of the site, some of which are drained or in maintenance."""
    for rack in range(POOLS):
        servers = [
            {"name": f"r{rack}-{place:02}", "address": f"fd00:10::{rack + 1}:{place + 1:x}", "weight": 100}
            for place in range(EACH)
        ]
        servers[3]["state"], servers[7]["state"] = "drain", "maint"
        assert at_work.node.curl("PUT", f"pools/rack-{rack}", {"servers": servers})[0] == 201
    yield [f"rack-{rack}" for rack in range(POOLS)]
    for rack in range(POOLS):
        at_work.node.curl("DELETE", f"pools/rack-{rack}")


def counted(page: Page, condition: str) -> int:
    """The number on a chip."""
    text = page.locator(f".chip[data-key='{condition}'] b").inner_text()
    return int(text.replace(",", ""))


def states(at_work: Site, pool: str) -> list[str]:
    """The states of a pool's servers."""
    return [server["state"] for server in at_work.node.curl("GET", f"pools/{pool}/servers")[1]["items"]]


def test_four_hundred_servers(visit: Open, racks: list[str], keep: Callable[..., None]) -> None:
    """All are counted by condition, a filter leaves those that match, and the page stays light."""
    page = visit("servers")
    expect(page.locator("#pool-rack-7 tbody tr")).to_have_count(EACH)
    assert counted(page, "all") >= POOLS * EACH
    assert (counted(page, "draining"), counted(page, "maintenance")) == (POOLS, POOLS)
    keep(page, "servers-400", whole=False)
    page.get_by_role("button", name=re.compile("draining")).click()
    expect(page.locator("tbody tr")).to_have_count(POOLS)
    page.get_by_role("button", name=re.compile("draining")).click()
    page.get_by_label("Groups").select_option("condition")
    expect(page.locator("#condition-in-service tbody tr")).to_have_count(50)
    expect(page.locator("#condition-draining tbody tr")).to_have_count(POOLS)
    keep(page, "servers-400-by-condition", whole=False)
    page.get_by_role("button", name="Show all").click()
    assert page.locator("#condition-in-service tbody tr").count() >= POOLS * (EACH - 2)
    page.get_by_label("Find servers").fill("fd00:10::6:1a")
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody")).to_contain_text("r5-25")
    page.reload()
    expect(page.locator("tbody tr")).to_have_count(1)
    assert flaws(page) == []


def test_a_rack_drained_and_put_back(visit: Open, at_work: Site, racks: list[str], keep: Callable[..., None]) -> None:
    """By one request; a pool that would be left without servers is asked about; undo gives each its state back."""
    page = visit(f"servers?pool={racks[2]}")
    before = states(at_work, racks[2])
    generation = at_work.node.curl("GET", "status")[1]["generation"]
    page.get_by_label("Select r2-00").check()
    page.get_by_label("Select r2-01").check()
    bulk = page.get_by_role("region", name="Selected servers")
    expect(bulk).to_contain_text("2 servers selected")
    page.get_by_role("button", name=f"Select all of {racks[2]}").click()
    expect(bulk).to_contain_text(f"{EACH} servers selected")
    keep(page, "servers-selected", whole=False)
    page.get_by_role("button", name="Drain selected").click()
    expect(page.get_by_role("dialog")).to_contain_text(f"No server of {racks[2]} would take new flows")
    page.click("[data-action=confirm]")
    expect(page.get_by_text(f"{EACH - 1} servers are draining")).to_be_visible()
    assert set(states(at_work, racks[2])) == {"drain"}
    assert at_work.node.curl("GET", "status")[1]["generation"] == generation + 1
    expect(bulk).to_be_hidden()
    assert counted(page, "draining") == EACH
    page.click("[data-action=undo]")
    expect(page.locator(".chip[data-key='in service'] b")).to_have_text(str(EACH - 2))
    assert states(at_work, racks[2]) == before


def test_what_was_refused_is_said_of_each(visit: Open, at_work: Site, racks: list[str]) -> None:
    """A server that somebody else has removed meanwhile is named; the others are drained."""
    page = visit(f"servers?pool={racks[3]}", log=False)
    page.get_by_label("Select r3-10").check()
    page.get_by_label("Select r3-11").check()
    page.route("**/console/live*", lambda route: route.abort())  # it does not hear of the removal
    assert at_work.node.curl("DELETE", f"pools/{racks[3]}/servers/r3-11")[0] == 204
    page.get_by_role("button", name="Drain selected").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("1 of 2 servers not changed")
    expect(dialog).to_contain_text("there is no such server")
    assert states(at_work, racks[3])[10] == "drain"
    page.unroute_all(behavior="ignoreErrors")


def test_a_poll_draws_nothing_anew(visit: Open, at_work: Site, racks: list[str]) -> None:
    """Figures come in every two seconds; no row is added, removed or replaced for that."""
    page = visit("servers")
    expect(page.locator("#pool-rack-7 tbody tr")).to_have_count(EACH)
    if at_work.dispatcher:
        expect(page.locator("[data-rate=packets]", has_text=re.compile(r"\d")).first).to_be_visible()
        expect(page.locator("#pool-fast [data-rate=bytes]")).to_contain_text("bit/s")
        expect(page.locator("#pool-fast [data-rate=flows]")).to_have_text(re.compile(r"\d"))
    page.evaluate("""() => {
        window.seen = [];
        const isElement = node => node.nodeType === 1;
        const observer = new MutationObserver(all => all.forEach(each => {
            if ([...each.addedNodes, ...each.removedNodes].some(isElement)) window.seen.push(each.target.className);
        }));
        observer.observe(document.querySelector("#page"), { childList: true, subtree: true });
    }""")
    for _ in range(2):
        page.wait_for_event("response", lambda response: "/console/live" in response.url)
    page.wait_for_timeout(200)
    assert page.evaluate("window.seen") == []


def test_on_a_phone(visit: Open, racks: list[str], keep: Callable[..., None]) -> None:
    """Servers are cards; the bar of what is selected stays within reach."""
    page = visit(f"servers?pool={racks[1]}", viewport=PHONE, color_scheme="dark", has_touch=True)
    page.get_by_label("Select r1-03").check()
    expect(page.get_by_role("button", name="Drain selected")).to_be_in_viewport()
    keep(page, "servers-400-phone", whole=False)
    assert flaws(page) == []


def test_a_token_that_only_looks(visit: Open, at_work: Site, racks: list[str]) -> None:
    """It is offered nothing to select and nothing to do; without the status no condition comes from health."""
    scopes = [{"actions": ["read"], "kinds": ["pool"]}]
    token = at_work.node.curl("POST", "tokens", {"name": "looks-at-servers", "scopes": scopes})[1]["token"]
    page = visit("servers", token=token)
    expect(page.locator("#pool-rack-0 tbody tr")).to_have_count(EACH)
    expect(page.get_by_role("checkbox")).to_have_count(0)
    expect(page.get_by_role("button", name=re.compile("^(Drain|Bring up|Edit|New|Select)"))).to_have_count(0)
    expect(page.locator(".chip[data-key=failing]")).to_have_count(0)
    expect(page.locator(".chip[data-key='in service']")).to_have_count(0)
    expect(page.locator(".chip[data-key='up, health unknown']")).to_be_visible()
    expect(page.locator("#pool-slow [data-health]").first).to_have_text("hidden")
