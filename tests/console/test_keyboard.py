from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.console.conftest import Open


def focused(page: Page) -> str:
    script = "document.activeElement.id || document.activeElement.innerText || document.activeElement.tagName"
    return str(page.evaluate(script))


def test_by_keyboard_alone(visit: Open) -> None:
    """From the sign-in to a changed client without the pointer: every stop is visible, and nothing traps the focus."""
    page = visit()
    press = page.keyboard.press
    press("g")
    press("c")
    expect(page.locator("h1")).to_have_text("Clients")
    press("/")
    assert focused(page) == "find"
    page.keyboard.type("client-05")
    press("Enter")
    expect(page.locator("tbody tr")).to_have_count(10)
    press("j")
    assert focused(page) == "client-050"
    press("j")
    press("j")
    press("k")
    assert focused(page) == "client-051"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    press("Enter")
    expect(page.locator("h1")).to_have_text("client-051")
    expect(page.get_by_label("Tier")).to_be_visible()
    for _ in range(60):
        press("Tab")
        if page.evaluate("document.activeElement.tagName") == "SELECT":
            break
    page.keyboard.type("g")
    expect(page.get_by_label("Tier")).to_have_value("gold")
    for _ in range(60):
        press("Tab")
        if focused(page) == "Save":
            break
    press("Enter")
    expect(page.get_by_text("client-051 changed")).to_be_visible()


def test_help_and_escape(visit: Open) -> None:
    """ "?" shows the keys, Esc closes what is open and gives the focus back; keys that are typed into a field do nothing."""
    page = visit("keys")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Address explorer")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    rotate = page.get_by_role("button", name="Rotate")
    rotate.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("/")
    page.keyboard.type("g c ? t")
    expect(page.locator("#find")).to_have_value("g c ? t")
    expect(page.locator("h1")).to_have_text("Keys")
    page.keyboard.press("Escape")
    assert focused(page) != "find"


def test_the_first_stop_leads_past_the_navigation(visit: Open) -> None:
    """The first Tab offers to skip to the page."""
    page = visit("audit")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to the page"
    page.keyboard.press("Enter")
    assert focused(page) == "page"
