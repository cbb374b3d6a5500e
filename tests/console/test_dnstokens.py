"""DNS tokens in the browser: made, shown once, replaced, removed."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.console.conftest import Open, arrived, turn
from tests.console.site import Site
from tests.console.test_look import flaws


def shown(page: Page) -> str:
    """The text in the dialog that shows a token once."""
    text = page.locator("dialog .copy span").inner_text()
    page.get_by_role("button", name="Done").click()
    expect(page.locator("dialog")).to_have_count(0)
    assert text not in page.content()
    return text


def test_a_token_from_first_to_last(visit: Open, at_work: Site) -> None:
    """Made with a text that is shown once, replaced with both good for a week, replaced at once, removed."""
    page = visit("dnstokens")
    page.get_by_role("link", name="New DNS token").click()
    page.locator("#page, dialog").get_by_label("Name").fill("browser")
    page.keyboard.press("Enter")
    first = shown(page)
    expect(page.locator("h1")).to_have_text("browser")
    arrived(page, "dnstokens/browser")
    expect(page.locator("#page")).to_contain_text("never")
    assert flaws(page) == []
    begun = at_work.node.curl("GET", "dns-tokens/browser")[1]
    page.get_by_role("button", name="New text").click()
    page.click("[data-action=confirm]")
    assert shown(page) != first
    after = at_work.node.curl("GET", "dns-tokens/browser")[1]
    assert after["previous"] == begun["digest"]
    expect(page.get_by_label("Previous digest")).to_have_value(begun["digest"])
    page.get_by_role("button", name="New text").click()
    page.locator("dialog input[type=checkbox]").uncheck()
    page.click("[data-action=confirm]")
    shown(page)
    assert at_work.node.curl("GET", "dns-tokens/browser")[1]["previous"] is None
    turn(page, "dnstokens")
    expect(page.locator("tbody")).to_contain_text("browser")
    page.get_by_role("link", name="browser").click()
    page.get_by_role("button", name="Remove DNS token").click()
    page.click("[data-action=confirm]")
    expect(page.get_by_text("browser removed")).to_be_visible()
    assert at_work.node.curl("GET", "dns-tokens/browser")[0] == 404
