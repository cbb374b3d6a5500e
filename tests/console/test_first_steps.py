"""The first steps of an empty site: followed in a browser to the end, a `dig` that is answered."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.console.conftest import DESKTOP, PHONE, WAIT_MS, turn
from tests.console.test_look import flaws
from tests.node.serving import Node, node

PREFIX, PLAIN = "2001:db8:f:1::/64", "2001:db8:f:1::1"


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Node]:
    """A node on a new database."""
    with node(tmp_path) as made:
        made.start("--token-file", "token")
        yield made


@pytest.fixture
def page(empty: Node, browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport=DESKTOP, color_scheme="light", reduced_motion="reduce")
    context.set_default_timeout(2 * WAIT_MS)
    made = context.new_page()
    made.goto(f"http://127.0.0.1:{empty.api}/console/")
    made.fill("#token", empty.token)
    made.keyboard.press("Enter")
    yield made
    context.close()


def made(page: Page, button: str, step: str, state: str = "done", **fields: str) -> None:
    """Make what a step asks for by its button; then the step is in that state."""
    page.get_by_role("button", name=button, exact=True).click()
    dialog = page.get_by_role("dialog")
    for label, value in fields.items():
        dialog.get_by_label(label, exact=True).first.fill(value)
    dialog.get_by_role("button", name="Create").click()
    expect(dialog).to_have_count(0)
    expect(page.locator(f"[data-step={step}]")).to_have_attribute("data-state", state)


def test_from_nothing_to_an_answer(page: Page, empty: Node, keep: Callable[..., None]) -> None:
    """An empty site leads in by itself; each step is done when the site has it, whoever made it, and the last one shows
    a command that is answered with the first client's own address."""
    expect(page.locator("h1")).to_have_text("First steps")
    expect(page.locator("[data-state=next]")).to_have_count(1)
    expect(page.locator("[data-state=later]")).to_have_count(5)
    assert flaws(page) == []
    keep(page, "first-steps")
    made(page, "New pool", "pool", "next", Name="web")
    made(page, "Add a server to web", "pool", Name="web-1", Address="fd00:10::11")
    assert empty.curl("PUT", "tiers/standard", {"code": 1, "pool": "web"})[0] == 201  # by somebody else
    expect(page.locator("[data-step=tier]")).to_have_attribute("data-state", "done")
    made(page, "New cluster", "cluster", Name="edge", Prefix=PREFIX, **{"Plain address": PLAIN})
    made(page, "New zone", "zone", Name="first.test")
    made(page, "New service", "service", Name="www.first.test")
    expect(page.get_by_role("region", name="The proof")).to_have_count(0)
    made(page, "New client", "client", Name="me")
    proof = page.get_by_role("region", name="The proof")
    command = proof.locator(".copy span").inner_text()
    keep(page, "first-steps-done")
    assert flaws(page) == []
    answer = subprocess.run(shlex.split(command), capture_output=True, text=True, timeout=60, check=True).stdout.split()
    assert len(answer) == 1, answer
    assert ip_address(answer[0]) in ip_network(PREFIX)
    assert answer[0] != PLAIN
    decoded = empty.curl("GET", f"decode?address={answer[0]}")[1]
    assert (decoded["accepted"], decoded["client"]) == (True, "me")
    expect(proof).to_contain_text("has answered 1 query")
    page.set_viewport_size(PHONE)
    page.emulate_media(color_scheme="dark")
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    keep(page, "first-steps-phone-dark")
    assert empty.curl("DELETE", "clients/me")[0] == 204  # what is gone is not done any more
    expect(page.locator("[data-step=client]")).to_have_attribute("data-state", "next")
    expect(proof).to_have_count(0)


def test_who_may_not_fill_it(page: Page, empty: Node) -> None:
    """A token that may only look is not led there, and where it goes there itself it has no buttons."""
    expect(page.locator("h1")).to_have_text("First steps")
    _, viewer = empty.curl("POST", "tokens", {"name": "viewer", "role": "viewer"})
    page.click("#sign-out")
    page.fill("#token", viewer["token"])
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Overview")
    turn(page, "start")
    expect(page.locator("[data-state=next]")).to_have_count(1)
    expect(page.locator(".step-first .button")).to_have_count(0)
