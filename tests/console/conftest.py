"""The console in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.browser import launch
from tests.console.site import Site, site

DESKTOP = {"width": 1360, "height": 860}
PHONE = {"width": 390, "height": 844}
ARTEFACTS = Path(__file__).parent / "artefacts"
WAIT_MS = 20_000
expect.set_options(timeout=WAIT_MS)

Open = Callable[..., Page]


@pytest.fixture(scope="package")
def at_work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One site for all tests here; each changes what only it looks at."""
    with site(tmp_path_factory.mktemp("console")) as made:
        yield made


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One for all tests here. Not for the whole session: Playwright has an event loop running all the while."""
    with sync_playwright() as playwright, launch(playwright) as chromium:
        yield chromium


@pytest.fixture
def visit(at_work: Site, browser: Browser) -> Iterator[Open]:
    """Opens the console as a browser that was never here; at the end its log must be empty.

    Options are those of a browser context. `token` is another one than the first; `signed_in=False` stays at the
    sign-in page, `log=False` lets the log be.
    """
    said: list[str] = []
    contexts = []

    def hear(message: ConsoleMessage) -> None:
        draft = "422" in message.text and str(message.location["url"]).endswith("/preview")  # of a form half filled in
        if not draft:
            said.append(f"{message.type}: {message.text} {message.location}")

    def open_page(
        place: str = "", *, signed_in: bool = True, token: str | None = None, log: bool = True, **options: Any
    ) -> Page:
        context = browser.new_context(
            **{"viewport": DESKTOP, "color_scheme": "light", "reduced_motion": "reduce", **options}
        )
        context.set_default_timeout(WAIT_MS)
        contexts.append(context)
        page = context.new_page()
        if log:
            page.on("console", hear)
            page.on("pageerror", lambda error: said.append(f"uncaught: {error}"))
        page.goto(f"{at_work.url}#/{place}")
        if signed_in:
            page.fill("#token", token or at_work.node.token)
            page.keyboard.press("Enter")
            page.wait_for_selector(".shell h1")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []


def turn(page: Page, place: str) -> None:
    """Turn a page of the console to another place, and wait until that is shown: before, the old one still answers."""
    page.goto(f"{page.url.partition('#')[0]}#/{place}")
    arrived(page, place)


def arrived(page: Page, place: str) -> None:
    """Wait until the console shows a place (a query does not matter)."""
    expect(page.locator(f'#page[data-shown="{unquote(place.partition("?")[0])}"]')).to_be_visible()


@pytest.fixture
def keep(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Keeps a picture of a page among the artefacts."""

    def picture(page: Page, name: str, *, whole: bool = True) -> None:
        ARTEFACTS.mkdir(exist_ok=True)
        page.screenshot(path=ARTEFACTS / f"{re.sub('[^a-z0-9-]+', '-', name)}.png", full_page=whole)

    return picture
