from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.console.conftest import PHONE, Open
from tests.console.site import Site
from tests.console.test_look import flaws


def test_a_pool_from_first_to_last(visit: Open, at_work: Site) -> None:
    """Made, given a server, changed and changed back, removed and brought back whole: each as the API then says."""
    page = visit("servers")
    look = lambda: at_work.node.curl("GET", "pools/spare")[1]  # noqa: E731
    page.get_by_role("button", name="New pool").click()
    expect(page.locator("#page, dialog").get_by_label("Name")).to_be_focused()
    page.keyboard.type("spare")
    page.get_by_label("Forwarding").select_option("encap")
    page.get_by_label("Stickiness").select_option("client")
    page.get_by_label("Fallback").select_option("slow")
    page.get_by_label("Health check").check()
    page.get_by_label("TCP port").fill("8080")
    page.get_by_label("Interval").fill("2.5")
    page.keyboard.press("Enter")
    card = page.locator("#pool-spare")
    expect(card).to_contain_text("TCP port 8080, interval 2.5 s")
    made = look()
    assert (made["forward"], made["stickiness"], made["fallback"], made["servers"]) == ("encap", "client", "slow", [])
    assert (made["check"]["tcp"], made["check"]["interval"], made["check"]["fall"]) == (8080, 2.5, 2)

    card.get_by_role("button", name="Add server").click()
    page.locator("#page, dialog").get_by_label("Name").fill("spare-1")
    page.get_by_label("Address", exact=True).fill("fd00:10::31")
    page.get_by_role("button", name="Create").click()
    expect(card.locator("tbody")).to_contain_text("spare-1")

    before = look()
    page.get_by_role("button", name="Edit pool spare").click()
    expect(page.get_by_role("dialog")).to_contain_text("Pool spare")
    expect(page.locator("#page, dialog").get_by_label("Name")).to_have_count(0)
    page.get_by_label("Health check").uncheck()
    expect(page.get_by_label("TCP port")).to_be_hidden()
    page.get_by_label("Fallback").select_option("")
    page.get_by_role("button", name="Save").click()
    expect(card.locator(".pool-about")).to_contain_text("not checked")
    assert look() == {**before, "check": None, "fallback": None}
    page.locator(".toast").filter(has_text="spare changed").get_by_role("button", name="Undo").click()
    expect(card.locator(".pool-about")).to_contain_text("TCP port 8080")
    assert look() == before

    page.get_by_role("button", name="Edit pool spare").click()
    page.get_by_role("button", name="Remove").click()
    expect(page.get_by_role("dialog")).to_contain_text("1 server")
    page.click("[data-action=confirm]")
    expect(card).to_have_count(0)
    assert at_work.node.curl("GET", "pools/spare")[0] == 404
    page.locator(".toast").filter(has_text="spare removed").get_by_role("button", name="Undo").click()
    expect(card).to_be_visible()
    assert look() == before
    assert at_work.node.curl("DELETE", "pools/spare")[0] == 204


def test_what_is_refused(visit: Open, at_work: Site) -> None:
    """Errors of the API stand at their fields, what exists is not overwritten, and a pool that is named stays."""
    page = visit("servers", log=False)
    page.get_by_role("button", name="New pool").click()
    page.get_by_role("button", name="Create").click()
    expect(page.locator("dialog [data-path=name] > .error")).to_have_text("A name is required.")
    page.locator("#page, dialog").get_by_label("Name").fill("refused")
    page.get_by_label("Health check").check()
    page.get_by_label("TCP port").fill("80")
    page.get_by_label("HTTP URL").fill("http://[{address}]:80/")
    page.get_by_role("button", name="Create").click()
    expect(page.locator("dialog [data-path=check] > .error")).to_contain_text("tcp or http")
    page.get_by_label("HTTP URL").fill("")
    page.get_by_label("TCP port").fill("0")
    page.get_by_role("button", name="Create").click()
    expect(page.locator("dialog [data-path=check] [data-path=tcp] > .error")).not_to_be_empty()
    expect(page.get_by_label("TCP port")).to_be_focused()
    expect(page.get_by_label("TCP port")).to_have_attribute("aria-invalid", "true")
    assert at_work.node.curl("GET", "pools/refused")[0] == 404
    page.get_by_label("TCP port").fill("80")
    page.locator("#page, dialog").get_by_label("Name").fill("not a name")
    page.get_by_role("button", name="Create").click()
    expect(page.locator("dialog [data-path=name] > .error")).not_to_be_empty()
    before = at_work.node.curl("GET", "pools/fast")[1]
    page.locator("#page, dialog").get_by_label("Name").fill("fast")
    page.get_by_role("button", name="Create").click()
    expect(page.locator("dialog .form-error")).to_contain_text("exists already")
    assert at_work.node.curl("GET", "pools/fast")[1] == before
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Edit pool fast").click()
    page.get_by_role("button", name="Remove").click()
    page.click("[data-action=confirm]")
    expect(page.locator(".toast.bad")).to_contain_text("tier.gold")
    assert at_work.node.curl("GET", "pools/fast")[1] == before


def test_somebody_else_was_quicker(visit: Open, at_work: Site) -> None:
    """A form that shows an older state overwrites nothing."""
    assert at_work.node.curl("PUT", "pools/raced", {})[0] == 201
    page = visit("servers", log=False)
    page.get_by_role("button", name="Edit pool raced").click()
    page.get_by_label("Stickiness").select_option("session")
    assert at_work.node.curl("PATCH", "pools/raced", {"stickiness": "client"})[0] == 200
    page.get_by_role("button", name="Save").click()
    expect(page.locator("dialog .form-error")).to_contain_text("has changed")
    assert at_work.node.curl("GET", "pools/raced")[1]["stickiness"] == "client"
    assert at_work.node.curl("DELETE", "pools/raced")[0] == 204


@pytest.mark.parametrize("look", ["light", "dark", "phone"])
def test_how_the_form_looks(visit: Open, keep: Callable[..., None], look: str) -> None:
    """The form fits a phone, and axe finds no flaw in it, light and dark."""
    options = {"light": {}, "dark": {"color_scheme": "dark"}, "phone": {"viewport": PHONE, "color_scheme": "dark"}}
    page = visit("servers", **options[look])
    page.get_by_role("button", name="Edit pool fast").click()
    expect(page.get_by_label("TCP port")).to_have_value("80")
    keep(page, f"pool-{look}", whole=False)
    assert flaws(page) == []
    assert page.locator("dialog").evaluate("dialog => dialog.scrollWidth - dialog.clientWidth") == 0
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_who_may_only_read(visit: Open, at_work: Site) -> None:
    """A viewer sees pools and is offered no change; who may change but not delete is not offered to remove one."""
    status, created = at_work.node.curl("POST", "tokens", {"name": "pool-looker", "role": "viewer"})
    assert status == 201, created
    page = visit("servers", signed_in=False)
    page.fill("#token", created["token"])
    page.keyboard.press("Enter")
    expect(page.locator("#pool-fast")).to_contain_text("fast-1")
    for name in ("New pool", "Edit pool fast", "Add server"):
        expect(page.get_by_role("button", name=name)).to_have_count(0)
    scope = {"actions": ["read", "write"], "kinds": ["pool"]}
    status, created = at_work.node.curl("POST", "tokens", {"name": "pool-writer", "scopes": [scope]})
    assert status == 201, created
    page = visit("servers", signed_in=False, log=False)
    page.fill("#token", created["token"])
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Edit pool fast").click()
    expect(page.get_by_role("button", name="Save")).to_be_visible()
    expect(page.get_by_role("button", name="Remove")).to_have_count(0)
