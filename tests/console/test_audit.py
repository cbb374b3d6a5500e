"""The audit as people read it: an import is one row that opens, times are near and exact, filters are in the URL."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import expect

from tests.console.conftest import PHONE, Open
from tests.console.site import Site
from tests.console.test_look import flaws

IMPORTED = 60


@pytest.fixture(scope="module")
def imported(at_work: Site) -> Iterator[str]:
    """The name of a token that has imported clients, and changed a tier."""
    token = at_work.node.curl("POST", "tokens", {"name": "importer", "role": "operator"})[1]["token"]
    lines = [{"name": f"imported-{place:03}", "id": 60_000 + place, "tier": "gold"} for place in range(IMPORTED)]
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/x-ndjson"}
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    asked = urllib.request.Request(f"{at_work.node.url}/clients/import", data, headers)  # noqa: S310 - http
    with urllib.request.urlopen(asked, timeout=60) as answer:  # noqa: S310 - http
        assert json.load(answer)["made"] == IMPORTED
    assert at_work.node.curl("PATCH", "tiers/gold", {"dscp": 18}, token=token)[0] == 200
    yield "token importer"
    at_work.node.curl("PATCH", "tiers/gold", {"dscp": 34}, token=token)
    for line in lines:
        at_work.node.curl("DELETE", f"clients/{line['name']}")


def test_an_import_is_one_row_that_opens(visit: Open, imported: str, keep: Callable[..., None]) -> None:
    """It says how many clients were created; opened it lists them, more by a click, each as a link."""
    page = visit("audit")
    page.get_by_label("Actor, such as token first").fill(imported)
    expect(page.locator(".audit > li")).to_have_count(2)
    row = page.locator(".at-once")
    expect(row).to_contain_text(f"{IMPORTED} clients created")
    expect(row).to_contain_text(f"by {imported}")
    row.locator("summary").click()
    expect(row.locator("li")).to_have_count(25)
    keep(page, "audit-import", whole=False)
    assert flaws(page) == []
    row.get_by_role("button", name="Show more").click()
    expect(row.locator("li")).to_have_count(50)
    row.get_by_role("button", name="Show more").click()
    expect(row.locator("li")).to_have_count(IMPORTED)
    row.get_by_role("link", name="imported-000").click()
    expect(page.locator("h1")).to_have_text("imported-000")


def test_times(visit: Open, imported: str) -> None:
    """A list says how long ago; the exact moment, with its zone, is beside it, by either clock."""
    page = visit(f"audit?actor={imported.replace(' ', '+')}", timezone_id="America/New_York")
    moment = page.locator(".audit time").first
    expect(moment).to_have_text(re.compile("ago|just now"))
    local, utc = (moment.get_attribute("title") or "").split("\n")
    assert re.fullmatch(r"\d+ \w+ \d{4}(,| at) \d\d:\d\d:\d\d (EST|EDT|GMT-[45])", local), local
    assert re.fullmatch(r"\d+ \w+ \d{4}(,| at) \d\d:\d\d:\d\d UTC", utc), utc
    expect(page.locator(".day").first).to_have_text("Today")
    page.get_by_role("button", name="UTC").click()
    expect(page.get_by_role("button", name="UTC")).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".audit time").first).to_have_attribute("title", utc)
    page.reload()
    expect(page.get_by_role("button", name="UTC")).to_have_attribute("aria-pressed", "true")


def test_filters(visit: Open, imported: str) -> None:
    """Time, actor, kind and action narrow the list; the search is a link; the tokens that there are, are offered."""
    page = visit("audit", timezone_id="UTC")
    assert f"{imported}" in page.locator("#actors option").evaluate_all("all => all.map(one => one.value)")
    page.get_by_label("Actor, such as token first").fill(imported)
    page.get_by_label("Kind").select_option("tier")
    expect(page.locator(".audit > li")).to_have_count(1)
    expect(page.locator(".audit del")).to_have_text("34")
    page.get_by_label("Time").select_option("3600")
    expect(page.locator(".audit > li")).to_have_count(1)
    page.reload()
    expect(page.locator(".audit > li")).to_have_count(1)
    page.get_by_label("Time").select_option("custom")
    ago = time.strftime("%Y-%m-%dT%H:%M", time.gmtime(time.time() - 7200))
    page.get_by_label("Until").fill(ago)
    expect(page.get_by_text("Nothing matches")).to_be_visible()
    page.get_by_label("Until").fill("")
    page.get_by_label("From").fill(ago)
    expect(page.locator(".audit > li")).to_have_count(1)


def test_news(visit: Open, at_work: Site, imported: str) -> None:
    """What is changed while the list is read does not move it; a button shows it."""
    page = visit("audit?kind=tier")
    expect(page.locator(".audit > li").first).to_be_visible()
    before = page.locator(".audit > li").count()
    assert at_work.node.curl("PATCH", "tiers/gold", {"dscp": 20})[0] == 200
    page.get_by_role("button", name="There are newer changes").click()
    expect(page.locator(".audit > li")).to_have_count(before + 1)
    assert imported


def test_on_a_phone(visit: Open, imported: str, keep: Callable[..., None]) -> None:
    """All of it fits."""
    page = visit("audit", viewport=PHONE, color_scheme="dark", has_touch=True)
    page.locator(".at-once summary").first.click()
    expect(page.locator(".change-rows li").first).to_be_visible()
    keep(page, "audit-import-phone", whole=False)
    assert flaws(page) == []
    assert imported
