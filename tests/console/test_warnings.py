"""What the API warns of is shown to the person who makes the change, in the console and on the command line."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.console.conftest import Open
from tests.console.site import Site


def test_addresses_at_a_service(visit: Open, at_work: Site) -> None:
    """An AAAA record at a service's name is stored with a warning that stays until it is dismissed."""
    page = visit("zones/example.test")
    text = page.get_by_label("Text")
    good = text.input_value()
    text.fill(good + "www IN AAAA 2001:db8::7\n")
    page.get_by_role("button", name="Save").click()
    warnings = page.locator(".toast.warn")
    expect(warnings.first).to_contain_text(
        "service.www.example.test: its AAAA records in zone example.test are not served"
    )
    expect(warnings.nth(1)).to_contain_text("its serial")
    page.locator(".toast").filter(has_text="example.test changed").get_by_role("button", name="Undo").click()
    expect(text).to_have_value(good)
    for _ in range(warnings.count()):
        warnings.first.get_by_role("button", name="Dismiss").click()
    expect(warnings).to_have_count(0)


def test_an_attribute_that_nothing_carries(visit: Open, at_work: Site) -> None:
    """An attribute that no layout has is warned of in the console, and on standard error by the command line."""
    page = visit("clients/client-111")
    page.get_by_role("button", name="Add to attributes").click()
    place = page.locator("[data-path=attributes]")
    place.get_by_role("textbox").first.fill("shoe")
    place.get_by_role("textbox").last.fill("left")
    page.get_by_role("button", name="Save").click()
    words = "client.client-111.attributes.shoe: no cluster's layout has a field 'shoe', so no address carries it"
    expect(page.locator(".toast.warn")).to_contain_text(words)
    done = at_work.node.noun("clients", "set", "client-112", "attributes.shoe=right")
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"warning: {words.replace('111', '112')}\n"
