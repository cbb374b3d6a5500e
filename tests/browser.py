"""The browser of tests that look at pages: Chromium's headless shell as Debian packages it, driven by Playwright."""

from __future__ import annotations

from shutil import which

from playwright.sync_api import Browser, Playwright

PROGRAM = "chromium-headless-shell"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def launch(playwright: Playwright) -> Browser:
    """Start it. The shell runs pages as Chromium does, but has no windows: their toolbars are pages too, and a fresh
    context with them takes Chromium three times the CPU time."""
    program = which(PROGRAM)
    assert program, f"no {PROGRAM}: deploy/debian-packages.sh installs it"
    return playwright.chromium.launch(executable_path=program, args=list(FLAGS))
