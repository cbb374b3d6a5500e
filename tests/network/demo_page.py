"""The demo's page in Chromium: it has every section, nothing of it is wrong, and pictures of it are kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from tests.browser import launch
from tests.console.conftest import ARTEFACTS

SECTIONS = ("address", "world", "latency", "flood", "server", "dispatcher", "proofs", "method")
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1200, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1200, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light"},
}


def look_at_page(file: Path, document: dict[str, Any]) -> None:
    """Open it without a network in each look; raises AssertionError where it is not whole."""
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    said: list[str] = []
    with sync_playwright() as playwright, launch(playwright) as chromium:
        for name, look in LOOKS.items():
            context = chromium.new_context(offline=True, **look)
            page = context.new_page()
            page.on("console", lambda message: said.append(message.text))
            page.on("pageerror", lambda error: said.append(str(error)))
            page.on("request", lambda request: said.append(request.url) if request.url != file.as_uri() else None)
            page.goto(file.as_uri())
            page.screenshot(path=ARTEFACTS / f"demo-page-{name}.png", full_page=True)
            assert [section for section in SECTIONS if page.locator(f"#{section}").is_visible()] == list(SECTIONS)
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), name
            number = sum(len(act["checks"]) for act in document["acts"])
            assert page.locator(".checks li").count() == number
            assert page.locator(".verdict").inner_text().startswith(f"{number} of {number} checks held")
            figures = json.loads(page.locator("script#figures").text_content() or "")
            assert figures["acts"] == document["acts"]
            assert page.locator(".way").count() == len(page.locator("#latency tr").all()) - 1
            assert page.locator("#server circle").count() > 0
            context.close()
    assert not said
