from __future__ import annotations

from playwright.sync_api import Page, Route, expect

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


def test_a_page_left_before_it_was_ready(visit: Open) -> None:
    """What a page still waits for when it is left takes no key from the next one."""
    page = visit()
    late: list[Route] = []
    page.route("**/api/v1/tiers?limit=1000", lambda route: late.append(route))  # noqa: PLW0108 - it takes no builtin
    page.keyboard.press("g")
    page.keyboard.press("c")
    expect(page.locator("h1")).to_have_text("Clients")
    page.keyboard.press("/")
    page.keyboard.type("client-05")
    page.keyboard.press("Enter")
    expect(page.locator("tbody tr")).to_have_count(10)
    for route in late:
        with page.expect_response("**/api/v1/tiers?limit=1000"):
            route.continue_()
    page.wait_for_timeout(300)
    page.keyboard.press("j")
    assert late
    assert focused(page) == "client-050"


def test_help_and_escape(visit: Open) -> None:
    """A question mark shows the keys, Esc closes what is open; keys that are typed into a field do nothing else."""
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


def test_focus_is_where_the_page_begins(visit: Open) -> None:
    """A page begins at its title, so that Tab leads into it; before all else there is a link past the navigation."""
    page = visit("audit")
    expect(page.locator("h1")).to_be_focused()
    page.keyboard.press("Tab")
    assert page.evaluate("document.querySelector('#page').contains(document.activeElement)")
    first = page.locator("a, button, input, select, textarea").first
    expect(first).to_have_text("Skip to the page")
    first.focus()
    expect(first).to_be_in_viewport()
    page.keyboard.press("Enter")
    assert focused(page) == "page"
