"""How the console looks: a picture of every page, light, dark and on a phone, and what can be measured of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.console.conftest import PHONE, Open, arrived
from tests.console.site import Site

PLACES = {
    "overview": "overview",
    "clients": "clients?limit=25",
    "client": "clients/acme",
    "new-client": "clients/new?make=1",
    "address": "address?address={address}",
    "explain": "explain?qname=www.example.test&source=127.0.0.1&ecs=198.51.100.7",
    "tsig": "tsig",
    "tsig-key": "tsig/acme-key",
    "new-tsig-key": "tsig/new?make=1",
    "keys": "keys",
    "servers": "servers",
    "zones": "zones",
    "zone": "zones/example.test",
    "services": "services",
    "site": "site",
    "nodes": "nodes",
    "tokens": "tokens",
    "audit": "audit?action=~",
}
LOOKS: dict[str, dict[str, Any]] = {
    "light": {},
    "dark": {"color_scheme": "dark"},
    "phone": {"viewport": PHONE, "color_scheme": "dark", "has_touch": True},
}
SHOWN = {
    "overview": ".chart path[d*=L]",
    "address": ".payload",
    "explain": ".shares",
    "clients/acme": "#client-form select",
    "servers": ".tag.good",
    "nodes": "tbody tr",
}
"""Place -> what it shows when it is whole."""
RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}}
COLOURS = {"runOnly": {"type": "rule", "values": ["color-contrast"]}}
"""All that can differ in the dark: the document is that of the light."""


def settled(page: Page, place: str) -> None:
    """Wait until a place is shown whole."""
    arrived(page, place)
    expect(page.locator(".loading, [aria-busy=true]")).to_have_count(0)
    for start, shown in SHOWN.items():
        if place.startswith(start):
            expect(page.locator(shown).first).to_be_visible()


def flaws(page: Page, rules: dict[str, Any] = RULES) -> list[str]:
    """What axe finds wrong (rule, and the first places), and whether one would have to scroll sideways."""
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    violations = Axe().run(page, options=rules).response["violations"]
    places = [f"{rule['id']}: {[node['target'] for node in rule['nodes'][:3]]}" for rule in violations]
    return places + [f"{wide} pixels too wide"] * (wide > 0)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("look", LOOKS)
def test_every_page(visit: Open, at_work: Site, keep: Callable[..., None], look: str) -> None:
    """Every page shows itself without an error in the browser's log (a CSP violation is one), fits the width of the
    window, and axe finds no flaw in it."""
    page, rules = visit(signed_in=False, **LOOKS[look]), COLOURS if look == "dark" else RULES
    expect(page.locator("#token")).to_be_visible()
    keep(page, f"sign-in-{look}")
    found = {"sign-in": flaws(page, rules)}
    page.fill("#token", at_work.node.token)
    page.keyboard.press("Enter")
    for name, place in PLACES.items():
        page.goto(f"{at_work.url}#/{place.format(address=at_work.address())}")
        settled(page, place)
        keep(page, f"{name}-{look}")
        found[name] = flaws(page, rules)
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


def test_the_menu_on_a_phone(visit: Open, keep: Callable[..., None]) -> None:
    """Pages are behind a button there, which opens and closes them and says so."""
    page = visit("clients", viewport=PHONE)
    link = page.locator(".side nav").get_by_role("link", name="Keys", exact=True)
    expect(link).to_be_hidden()
    page.get_by_role("button", name="Pages").click()
    expect(link).to_be_visible()
    expect(page.locator("#menu")).to_have_attribute("aria-expanded", "true")
    keep(page, "menu-phone", whole=False)
    link.click()
    expect(page.locator("h1")).to_have_text("Keys")
    expect(link).to_be_hidden()


def test_the_choice_of_light_or_dark_stays(visit: Open) -> None:
    """The system's choice holds until another is made, which outlives a reload."""
    page = visit(color_scheme="dark")
    look = lambda: page.evaluate("document.documentElement.dataset.theme")  # noqa: E731
    assert look() == "dark"
    page.click("#theme")
    assert look() == "light"
    page.reload()
    expect(page.locator(".shell h1")).to_be_visible()
    assert look() == "light"


def test_first_paint(visit: Open, at_work: Site) -> None:
    """The first page asks this server alone, for less than 200 KiB, and nothing that is not there."""
    page = visit(signed_in=False)
    script = "performance.getEntriesByType('resource').map(e => [e.name, e.transferSize, e.responseStatus])"
    expect(page.locator("#token")).to_be_visible()
    loaded = page.evaluate(script)
    assert all(name.startswith(at_work.url.removesuffix("console/")) for name, _, _ in loaded)
    assert {status for _, _, status in loaded} == {200}
    assert sum(size for _, size, _ in loaded) < 200 * 1024
