"""What somebody is typing stays: value, caret and focus, whatever arrives from the server meanwhile."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.console.conftest import Open
from tests.console.site import Site

HOLD = "window.held = document.activeElement; window.moves = 0; held.addEventListener('blur', () => moves++)"
HELD = "held === document.activeElement && held.isConnected && moves === 0"


def test_in_a_list(visit: Open, at_work: Site) -> None:
    """Servers and pools come, go and change around a weight that is being typed, and the next key still lands in it."""
    page = visit("servers")
    weight = page.get_by_label("Weight of slow-2")
    before = weight.input_value()
    weight.fill("12")
    page.keyboard.press("ArrowLeft")
    page.evaluate(HOLD)
    curl = at_work.node.curl
    assert curl("PATCH", "pools/slow/servers/slow-1", {"weight": 33})[0] == 200
    assert curl("PUT", "pools/a-first", {"servers": [{"name": "a-1", "address": "fd00:10::91"}]})[0] == 201
    assert curl("PUT", "pools/slow/servers/z-last", {"address": "fd00:10::92"})[0] == 201
    assert curl("PATCH", "pools/slow/servers/slow-2", {"weight": 44})[0] == 200
    expect(page.get_by_label("Weight of slow-1")).to_have_value("33")
    expect(page.locator("#pool-a-first")).to_contain_text("a-1")
    expect(page.locator("#pool-slow")).to_contain_text("z-last")
    assert page.evaluate(HELD)
    page.keyboard.type("9")
    expect(weight).to_have_value("192")
    assert curl("DELETE", "pools/a-first")[0] == 204
    assert curl("DELETE", "pools/slow/servers/z-last")[0] == 204
    expect(page.locator("#pool-a-first")).to_have_count(0)
    expect(page.locator("#pool-slow")).not_to_contain_text("z-last")
    assert page.evaluate(HELD)
    page.keyboard.type("0")
    expect(weight).to_have_value("1902")
    weight.fill("60")
    weight.press("Enter")
    expect(page.get_by_text("slow-2 has weight 60")).to_be_visible()
    assert curl("GET", "pools/slow/servers/slow-2")[1]["weight"] == 60
    assert curl("PATCH", "pools/slow/servers/slow-2", {"weight": int(before)})[0] == 200
    page.keyboard.press("Tab")
    expect(weight).to_have_value(before)
    assert curl("PATCH", "pools/slow/servers/slow-1", {"weight": 100})[0] == 200


def test_in_a_form(visit: Open, at_work: Site) -> None:
    """Somebody else changes the object while a value is being typed: nothing moves, and saving keeps both changes."""
    page = visit("clients/client-102", log=False)
    network = page.locator("[data-path=match] [data-path='0']").get_by_label("Value")
    network.focus()
    page.keyboard.press("End")
    for _ in range(3):
        page.keyboard.press("Backspace")
    page.keyboard.press("ArrowLeft")
    caret = network.evaluate("field => field.selectionStart")
    page.evaluate(HOLD)
    shown = generation(page)
    assert at_work.node.curl("PATCH", "clients/client-102", {"attributes": {"lang": "en"}})[0] == 200
    expect(page.locator("#generation")).not_to_have_text(shown)
    page.wait_for_timeout(2500)
    assert page.evaluate(HELD)
    assert network.evaluate("field => [field.value, field.selectionStart]") == ["10.0.102.0", caret]
    page.keyboard.press("End")
    page.keyboard.type("/25")
    page.keyboard.press("Enter")
    expect(page.locator("#client-form .form-error")).to_contain_text("Somebody else has changed")
    expect(page.locator(".meanwhile")).to_contain_text("attributes.lang")
    expect(network).to_have_value("10.0.102.0/25")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("client-102 changed")).to_be_visible()
    stored = at_work.node.curl("GET", "clients/client-102")[1]
    assert (stored["match"], stored["attributes"]) == ([{"ecs": "10.0.102.0/25"}], {"lang": "en"})
    expect(page.locator("[data-path=attributes]").get_by_label("Value")).to_have_value("en")


def test_rows_and_reset(visit: Open) -> None:
    """A row moves with the focus on its button, a removed row hands the focus on, and a reset shows what is stored."""
    page = visit("clients/acme")
    rows = page.locator("[data-path=match] .form-row")
    steps = lambda: rows.locator("> .form-cells > select").evaluate_all("all => all.map(each => each.value)")  # noqa: E731
    expect(rows).to_have_count(3)
    assert steps() == ["source", "tsig", "ecs"]
    rows.nth(2).get_by_role("button", name="Move up").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert steps() == ["ecs", "source", "tsig"]
    assert page.evaluate("document.activeElement.closest('.form-row').dataset.path") == "0"
    rows.nth(1).get_by_role("button", name="Remove").focus()
    page.keyboard.press("Enter")
    assert steps() == ["ecs", "tsig"]
    assert page.evaluate("document.activeElement.dataset.row") == "remove"
    page.get_by_label("ID", exact=True).fill("5")
    page.get_by_role("button", name="Reset").click()
    assert steps() == ["source", "tsig", "ecs"]
    expect(page.get_by_label("ID", exact=True)).to_have_value("1001")


def generation(page: Page) -> str:
    expect(page.locator("#generation .good")).to_be_visible()
    return page.locator("#generation").inner_text()
