"""The search at the top of every page: by pointer, by keyboard alone, and only what the token may see."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.console.conftest import PHONE, Open
from tests.console.site import Site
from tests.console.test_look import flaws

LIST, OPTION = ".find-list", ".find-list [role=option]"


def typed(page: Page, text: str) -> None:
    page.keyboard.press("/")
    page.keyboard.type(text)


PLACES = [
    ("acme", "client", "acme", "#/clients/acme"),
    ("198.51.100.7", "client", "acme", "#/clients/acme"),
    ("fd00:10::21", "server", "slow-1", "#/servers?q=slow-1"),
    ("mail", "record", "mail.example.test", "#/zones/example.test?find=mail.example.test"),
    ("gold", "tier", "gold", "#/site"),
    ("acme-key", "tsig", "acme-key", "#/tsig/acme-key"),
]


@pytest.mark.parametrize(("text", "kind", "name", "place"), PLACES, ids=[f"{text}-{kind}" for text, kind, *_ in PLACES])
def test_each_kind_leads_to_its_page(visit: Open, text: str, kind: str, name: str, place: str) -> None:
    """What is typed shows what has it, by kind; a click leads to the page of that."""
    page = visit()
    typed(page, text)
    page.locator(OPTION, has_text=name).filter(
        has=page.locator(".find-name", has_text=re.compile(f"^{re.escape(name)}$"))
    ).locator(f"xpath=self::*[contains(@data-place, '{place.partition('?')[0]}')]").first.click()
    expect(page).to_have_url(re.compile(re.escape(place)))
    expect(page.locator(LIST)).to_be_hidden()
    expect(page.locator("#find")).to_have_value("")


def test_a_server_is_shown_alone(visit: Open) -> None:
    """A server that is found stands alone on the page of servers, which can show many."""
    page = visit()
    typed(page, "fd00:10::21")
    page.locator(f"{OPTION}[data-place*='/servers']").click()
    main = page.locator("main")
    expect(main).to_contain_text("slow-1")
    expect(main).not_to_contain_text("slow-2")
    expect(main.get_by_label("Find servers")).to_have_value("slow-1")


def test_by_keyboard_alone(visit: Open, keep: Callable[..., None]) -> None:
    """Arrows choose, Enter opens, Escape closes the list, a second one leaves the field; ARIA tells all of it."""
    page = visit()
    typed(page, "client-05")
    expect(page.locator(OPTION)).to_have_count(5)
    field = page.locator("#find")
    expect(field).to_have_attribute("aria-expanded", "true")
    expect(page.locator(LIST)).to_contain_text("Enter shows more")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    chosen = page.locator(f"{OPTION}[aria-selected=true]")
    expect(chosen).to_contain_text("client-051")
    expect(field).to_have_attribute("aria-activedescendant", str(chosen.get_attribute("id")))
    keep(page, "search-list")
    assert flaws(page) == []
    page.keyboard.press("Escape")
    expect(page.locator(LIST)).to_be_hidden()
    expect(field).to_be_focused()
    page.keyboard.type("1")
    expect(page.locator(OPTION)).to_have_count(1)
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("client-051")


def test_all_that_is_found(visit: Open, keep: Callable[..., None]) -> None:
    """Enter shows all on a page, whose address keeps the text; what is exactly meant is opened at once."""
    page = visit("keys")
    typed(page, "example")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Search")
    for title in ("Services", "Zones", "Records"):
        expect(page.get_by_role("region", name=title).first).to_contain_text("example.test")
    keep(page, "search")
    assert flaws(page) == []
    page.reload()
    expect(page.get_by_role("region", name="Zones").first).to_contain_text("example.test")
    typed(page, "newsreader")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("newsreader")
    page.go_back()
    expect(page.get_by_role("region", name="Zones").first).to_contain_text("example.test")
    typed(page, "nothing-of-the-kind")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Nothing found")).to_be_visible()


def test_only_what_the_token_may_see(visit: Open, at_work: Site) -> None:
    """A token for some clients finds those, and nothing tells that there are others."""
    scopes = [{"actions": ["read"], "kinds": ["client"], "clients": ["client-05*"]}]
    _, made = at_work.node.curl("POST", "tokens", {"name": "search-narrow", "scopes": scopes})
    page = visit(token=made["token"])
    typed(page, "client-0")
    expect(page.locator(OPTION)).to_have_count(5)
    expect(page.locator(OPTION).first).to_contain_text("client-050")
    page.keyboard.press("Enter")
    expect(page.locator("tbody tr")).to_have_count(10)
    typed(page, "acme")
    expect(page.locator(LIST)).to_contain_text("Nothing that this token may see")


@pytest.mark.parametrize("look", ["dark", "phone"])
def test_how_it_looks(visit: Open, keep: Callable[..., None], look: str) -> None:
    """In the dark, and on a phone, where nothing is wider than the page."""
    options = {"color_scheme": "dark"} if look == "dark" else {"viewport": PHONE}
    page = visit(**options)
    page.fill("#find", "example")
    page.locator("#find").dispatch_event("input")
    expect(page.locator(OPTION).first).to_be_visible()
    keep(page, f"search-list-{look}", whole=False)
    page.keyboard.press("Enter")
    expect(page.get_by_role("region", name="Zones").first).to_contain_text("example.test")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    keep(page, f"search-{look}")
