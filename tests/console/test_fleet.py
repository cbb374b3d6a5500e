"""A dispatcher that is gone: the overview is red, says who and since when, and keeps the charts with a gap."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.console.conftest import WAIT_MS, Open
from tests.console.site import Site
from tests.console.test_look import flaws
from tests.console.test_overview import BUSY, SECONDS

SINCE = r", since \d\d:\d\d:\d\d\."
NOBODY = "No dispatcher reports: packets to the clusters' addresses reach no server"


CHARTS = ("New flows by tier", "Dropped packets by reason")


def drawn(page: Page) -> None:
    """Both charts have a line: two reports of the dispatcher in a row."""
    for chart in CHARTS:
        expect(page.get_by_role("region", name=chart).locator("path[d*=L]").first).to_be_attached(timeout=WAIT_MS)


def gone(page: Page, what: str) -> None:
    """Everything on the overview says that the only dispatcher is gone."""
    expect(page.locator(".alarm.bad")).to_contain_text(re.compile(f"{NOBODY}{SINCE}"), timeout=WAIT_MS)
    expect(page.locator(".alarm.bad")).to_contain_text(re.compile(rf"Node \S+ \(dispatch\) {what}{SINCE}"))
    expect(page.locator(".alarm.bad")).to_contain_text("systemctl start dnsvip-dispatch")
    expect(page.locator("#away.bad")).to_contain_text(NOBODY)
    expect(page.locator("#generation .dot.bad")).to_have_count(1)
    expect(page.locator("[data-key='Nodes live'].bad")).to_contain_text("1 of 2")
    expect(page.locator("[data-key='Nodes live']")).to_contain_text("1 node gone")
    expect(page.locator("#page")).not_to_contain_text("up to date")
    for chart in CHARTS:
        expect(page.get_by_role("region", name=chart).locator(".legend")).to_contain_text("unknown")
    drawn(page)


def whole_again(page: Page) -> None:
    """All is well, and the charts show when it was not."""
    expect(page.locator(".alarm")).to_have_count(0, timeout=WAIT_MS)
    expect(page.locator("[data-key='Nodes live']")).to_contain_text("all up to date")
    figure = page.get_by_role("region", name="New flows by tier")
    expect(figure.locator(".legend")).not_to_contain_text("unknown", timeout=WAIT_MS)
    expect(figure.locator("path[fill=none][d*='M'][d*='L']").first).to_have_attribute("d", re.compile("M.*L.*M"))


def test_the_only_dispatcher_is_stopped(visit: Open, at_work: Site) -> None:
    """One that was stopped is named with the time, by the command line too; once forgotten, there never was any."""
    if at_work.dispatcher is None:
        pytest.skip("no TUN device or namespaces on this machine, so no dispatcher")
    page = visit()
    drawn(page)
    at_work.stop_dispatcher(signal.SIGTERM)
    try:
        gone(page, "was stopped")
        assert flaws(page) == []
        listed = at_work.node.noun("nodes", "list", "--role", "dispatch").stdout
        assert "stopped" in listed
        told = at_work.node.noun("status").stdout
        assert NOBODY in told
        assert "(dispatch) was stopped" in told
        assert "was stopped" in at_work.node.dnsvip("doctor", "node.toml").stdout
        name = listed.splitlines()[-1].split("\t")[0]
        assert at_work.node.noun("nodes", "forget", name).returncode == 0
        expect(page.locator(".alarm.bad")).to_have_text(re.compile(f"^{re.escape(NOBODY)}.Start one"), timeout=WAIT_MS)
    finally:
        at_work.start_dispatcher()
    whole_again(page)


def test_the_only_dispatcher_is_killed(visit: Open, at_work: Site, keep: Callable[..., None]) -> None:
    """One that was killed has stopped reporting; when it is back, nothing is left of its former process."""
    if at_work.dispatcher is None:
        pytest.skip("no TUN device or namespaces on this machine, so no dispatcher")
    page = visit()
    drawn(page)
    start = time.monotonic()
    at_work.stop_dispatcher(signal.SIGKILL)
    try:
        named = re.compile("has not reported for|has stopped reporting")  # late at first, and gone two seconds later
        expect(page.locator(".alarm")).to_contain_text(named, timeout=WAIT_MS)
        assert time.monotonic() - start < SECONDS + BUSY
        gone(page, "has stopped reporting")
        keep(page, "overview-dispatcher-killed")
    finally:
        at_work.start_dispatcher()
    whole_again(page)
    assert len(at_work.node.curl("GET", "nodes?role=dispatch")[1]["items"]) == 1


def test_a_node_is_drained_and_undrained(visit: Open, at_work: Site) -> None:
    """The page of nodes drains one after a question, says so on every page, and undrains it."""
    page = visit("nodes")
    button = page.get_by_role("button", name=re.compile("^Drain ")).first
    button.wait_for()
    label = button.get_attribute("aria-label")
    assert label
    name = label.removeprefix("Drain ")
    button.click()
    page.get_by_role("dialog").get_by_role("button", name="Drain").click()
    expect(page.locator(".tag", has_text="drained").first).to_be_visible(timeout=WAIT_MS)
    try:
        expect(page.locator("#away")).to_contain_text(f"Node {name} is drained", timeout=WAIT_MS)
        assert "drained" in at_work.node.noun("nodes", "list").stdout
        assert flaws(page) == []
    finally:
        page.get_by_role("button", name=f"Undrain {name}").first.click()
    expect(page.get_by_role("button", name=f"Drain {name}").first).to_be_visible(timeout=WAIT_MS)
