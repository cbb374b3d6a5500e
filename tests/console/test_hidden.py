"""What a token may not see is said to be hidden, on every page: it is never 0, never none and never well."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.console.conftest import Open, turn
from tests.console.site import CLIENTS, Site
from tests.console.test_look import flaws

SCOPES: dict[str, list[dict[str, Any]]] = {
    "some-clients": [
        {"actions": ["read", "write"], "kinds": ["client"], "clients": ["client-00*"], "tiers": ["gold"]},
        {"actions": ["read"], "kinds": ["tier"]},
    ],
    "partner": [
        {"actions": ["read"], "kinds": ["status", "tier", "client"], "clients": ["partner-*"], "tiers": ["gold"]},
        {"actions": ["read"], "kinds": ["zone", "service"], "zones": ["elsewhere.test"]},
    ],
    "decoder": [{"actions": ["read"], "kinds": ["decode", "explain", "pool"]}],
}
PAGES = ("address", "explain", "tsig", "servers", "zones", "services", "keys", "nodes", "tokens", "audit")


@pytest.fixture(scope="module")
def tokens(at_work: Site) -> dict[str, str]:
    """Tokens by name: that of a client-editor, and those of SCOPES."""
    asked = {"client-editor": {"role": "client-editor"}, **{name: {"scopes": each} for name, each in SCOPES.items()}}
    made = {
        name: at_work.node.curl("POST", "tokens", {"name": f"hidden-{name}", **body}) for name, body in asked.items()
    }
    assert {status for status, _ in made.values()} == {201}, made
    return {name: answer["token"] for name, (_, answer) in made.items()}


def test_a_client_editor_at_the_overview(visit: Open, tokens: dict[str, str]) -> None:
    """It sees how many clients there are; the status is hidden, so there is no figure of it and nothing is green."""
    page = visit("overview", token=tokens["client-editor"])
    expect(page.locator("[data-key=Clients] .figure-value")).to_have_text(str(CLIENTS + 2))
    expect(page.get_by_text("This token may not see the status of the site")).to_be_visible()
    expect(page.locator("#page")).not_to_contain_text("up to date")
    expect(page.locator("#page")).not_to_contain_text(re.compile(r"of 0|Nodes live|No dispatcher"))
    expect(page.locator(".chart")).to_have_count(0)
    expect(page.locator(".dot.good")).to_have_count(0)
    assert flaws(page) == []


def test_a_client_editor_on_all_pages(visit: Open, tokens: dict[str, str]) -> None:
    """The navigation has the pages that it may see; every other one says what is hidden, and asks for nothing."""
    page = visit("clients", token=tokens["client-editor"])
    expect(page.locator(".side nav a")).to_have_text(["Overview", "Clients", "Usage", "Tiers and clusters"])
    expect(page.locator("#find")).to_have_attribute("placeholder", "Find a name, an address, a record")
    for place in PAGES:
        turn(page, place)
        expect(page.locator("#page [data-hidden]")).to_contain_text("This token may not see")
        expect(page.get_by_role("button", name=re.compile("New|Try again"))).to_have_count(0)
    turn(page, "site")
    expect(page.locator("#page")).to_contain_text("blocked")
    expect(page.get_by_text("This token may not see clusters.")).to_be_visible()
    expect(page.get_by_text("This token may not see how clients are identified.")).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("^(New|Edit)"))).to_have_count(0)
    turn(page, "clients/client-003")
    expect(page.get_by_role("button", name="Revoke")).to_be_visible()
    expect(page.get_by_role("button", name="Enrolment")).to_have_count(0)
    expect(page.get_by_role("region", name="Its addresses now")).to_contain_text("This token may not see")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Tiers and clusters")
    expect(page.get_by_role("dialog")).not_to_contain_text("Servers and pools")


def test_a_token_of_some_clients(visit: Open, tokens: dict[str, str]) -> None:
    """Lists and counts have those that it may see and say so; it is offered the tiers that it may give."""
    page = visit("overview", token=tokens["some-clients"])
    expect(page.locator("[data-key=Clients]")).to_contain_text("10")
    expect(page.locator("[data-key=Clients]")).to_contain_text("that this token may see")
    turn(page, "clients")
    expect(page.locator("tbody tr")).to_have_count(10)
    expect(page.locator(".hidden-note")).to_have_text(
        "This token may see clients client-00* only; all others are hidden."
    )
    turn(page, "clients/client-001")
    expect(page.get_by_label("Tier").locator("option")).to_have_text(["standard", "gold"])
    expect(page.get_by_label("Tier")).to_have_value("standard")
    turn(page, "clients/acme")
    expect(page.locator("#page [data-hidden]")).to_have_text("HiddenThis token may not see the client acme.")


def test_an_empty_list_of_a_narrowed_token(visit: Open, tokens: dict[str, str]) -> None:
    """None that it may see is not none at all, in counts and in lists."""
    page = visit("overview", token=tokens["partner"])
    expect(page.locator(".hidden-note")).to_contain_text("may not see of these is left out here: clients, tiers")
    expect(page.locator("[data-key=Clients]")).to_contain_text("those that this token may see")
    expect(page.locator("[data-key=Clients] .figure-value")).to_have_text("0")
    turn(page, "clients")
    expect(page.get_by_text("No clients that this token may see")).to_be_visible()
    expect(page.locator("#page")).not_to_contain_text("No clients yet")
    turn(page, "zones")
    expect(page.get_by_text("No zones that this token may see")).to_be_visible()
    turn(page, "services")
    expect(page.locator(".hidden-note")).to_contain_text("in the zones elsewhere.test only")
    turn(page, "site")
    expect(page.get_by_role("region", name="All tiers").locator("tbody tr")).to_have_count(1)


def test_parts_of_a_page(visit: Open, at_work: Site, tokens: dict[str, str]) -> None:
    """A cluster that may not be read is hidden, not missing; so is the health of servers without the status."""
    page = visit(f"address?address={at_work.address()}", token=tokens["decoder"])
    expect(
        page.get_by_text("This token may not see the cluster, so the meaning of its bits is hidden.")
    ).to_be_visible()
    turn(page, "servers")
    expect(page.locator("#pool-fast [data-health]").first).to_have_text("hidden")
    expect(page.locator("#page")).not_to_contain_text(re.compile("No dispatcher|healthy"))


def test_pictures(visit: Open, tokens: dict[str, str], keep: Callable[..., None]) -> None:
    """Every page as a token sees it that may see little: nothing on it is empty without a reason."""
    page = visit("overview", token=tokens["decoder"])
    for place in ("overview", "clients", "servers", "site", "clients/acme", "nodes", "audit", "zones", "keys", "usage"):
        turn(page, place)
        expect(page.locator("#page [data-hidden]").first).to_be_visible()
        keep(page, f"hidden-{place}", whole=False)
