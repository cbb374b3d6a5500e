"""A client as it is now: its addresses are those that dig gets, with where they lead; its usage; its flows."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import expect

from tests.console.conftest import PHONE, Open
from tests.console.site import Site
from tests.console.test_look import flaws


def test_addresses_usage_and_flows(visit: Open, at_work: Site, keep: Callable[..., None]) -> None:
    """The address at a service, until when it opens flows, which tier or rule decides; a link takes it apart."""
    page = visit("clients/acme")
    addresses = page.locator("#addresses")
    expect(addresses).to_contain_text(at_work.address())
    expect(addresses).to_contain_text("tier gold decides")
    expect(addresses).to_contain_text("to pool fast")
    expect(addresses).to_contain_text("fast-1 100 %")
    if at_work.dispatcher:
        expect(page.locator("#flows tbody tr").first).to_contain_text("fast/fast-1")
        expect(page.locator("#flows")).to_contain_text(re.compile(r"flows? at this machine"))
        page.get_by_role("button", name="Read again: What it has used").click()
    expect(page.locator("#usage")).to_contain_text(re.compile("Bytes|Nothing used yet"))
    keep(page, "client-now")
    assert flaws(page) == []
    addresses.get_by_role("link", name="Take apart").first.click()
    expect(page.locator(".verdict")).to_contain_text("Accepted")


def test_a_disabled_client(visit: Open, at_work: Site) -> None:
    """It has no address of its own, and the page says what it gets."""
    assert at_work.node.curl("PATCH", "clients/client-050", {"state": "disabled"})[0] == 200
    page = visit("clients/client-050")
    expect(page.locator("#addresses")).to_contain_text("It is disabled")
    assert at_work.node.curl("PATCH", "clients/client-050", {"state": "enabled"})[0] == 200


def test_on_a_phone(visit: Open, keep: Callable[..., None]) -> None:
    """All of it fits."""
    page = visit("clients/acme", viewport=PHONE, color_scheme="dark", has_touch=True)
    expect(page.locator("#addresses li").first).to_be_visible()
    expect(page.locator(".loading")).to_have_count(0)
    keep(page, "client-now-phone")
    assert flaws(page) == []


def test_a_token_that_sees_little(visit: Open, at_work: Site) -> None:
    """Of a client it may see, what it may not is hidden, not missing."""
    scopes = [{"actions": ["read"], "kinds": ["client", "tier"]}]
    token = at_work.node.curl("POST", "tokens", {"name": "sees-clients", "scopes": scopes})[1]["token"]
    page = visit("clients/acme", token=token)
    for title in ("Its addresses now", "Its flows"):
        expect(page.get_by_role("region", name=title)).to_contain_text("This token may not see")
    expect(page.locator("#usage")).to_be_visible()
