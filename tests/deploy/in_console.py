"""The browser steps of deploy/README.md: sign in and move a client to a tier.

Run it as `python -m tests.deploy.in_console URL TOKEN-FILE CLIENT TIER`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

from tests.browser import launch
from tests.console.conftest import WAIT_MS


def move(url: str, token: str, client: str, tier: str) -> None:
    """Select the tier in the client's form and save."""
    with sync_playwright() as playwright, launch(playwright) as chromium:
        page = chromium.new_page()
        page.set_default_timeout(WAIT_MS)
        page.goto(url)
        page.fill("#token", token)
        page.keyboard.press("Enter")
        page.wait_for_selector(".shell h1")
        page.get_by_role("link", name="Clients").first.click()
        page.get_by_role("link", name=client, exact=True).click()
        page.get_by_label("Tier").select_option(tier)
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_text(f"{client} changed")).to_be_visible()


if __name__ == "__main__":
    move(sys.argv[1], Path(sys.argv[2]).read_text().strip(), sys.argv[3], sys.argv[4])
