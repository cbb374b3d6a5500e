"""What the console shows when something behind it is away, and that it goes on by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.console.conftest import DESKTOP, WAIT_MS, turn
from tests.node.serving import NODE, Node, node
from tests.postgres import Postgres, running

NO_DISPATCHER = "No dispatcher reports: packets to the clusters' addresses reach no server."


@pytest.fixture
def server() -> Iterator[Postgres]:
    with running() as made:
        yield made


@pytest.fixture
def alone(tmp_path: Path, server: Postgres) -> Iterator[Node]:
    """A node of its own, on PostgreSQL."""
    with node(tmp_path) as made:
        made.write_node(NODE.replace("sqlite:///dnsvip.db", server.database()))
        made.apply()
        made.start("--token-file", "token")
        yield made


@pytest.fixture
def page(alone: Node, browser: Browser) -> Iterator[Page]:
    """The console of that node, signed in, at the keys."""
    context = browser.new_context(viewport=DESKTOP)
    context.set_default_timeout(WAIT_MS)
    made = context.new_page()
    made.goto(f"http://127.0.0.1:{alone.api}/console/#/keys")
    made.fill("#token", alone.token)
    made.keyboard.press("Enter")
    expect(made.locator("#cluster-web")).to_be_visible()
    yield made
    context.close()


def test_the_database_goes_and_comes_back(page: Page, alone: Node, server: Postgres, keep: Callable[..., None]) -> None:
    """The page says what is away and what still works, keeps what it shows, tells what cannot be done, and recovers."""
    expect(page.locator("#away")).to_contain_text(NO_DISPATCHER)  # all that this node lacks
    turn(page, "overview")
    expect(page.get_by_role("region", name="Nodes")).to_contain_text("live")  # it has reported to the database
    turn(page, "keys")
    server.stop()
    expect(page.locator("#away")).to_contain_text("The database is unavailable", timeout=WAIT_MS)
    expect(page.locator("#cluster-web")).to_be_visible()
    keep(page, "database-away")
    expect(page.locator("#away")).to_contain_text("since")
    expect(page.locator("#away")).to_contain_text("read only")
    page.get_by_role("button", name="Rotate").click()
    page.click("[data-action=confirm]")
    expect(page.locator(".toast.bad")).to_be_visible()
    turn(page, "overview")
    expect(page.locator(".alarm")).to_contain_text("The database does not answer. The figures of this node go on")
    expect(page.locator(".alarm")).to_contain_text("Bring the database back")
    expect(page.get_by_role("region", name="Nodes")).to_contain_text("As of")
    keep(page, "overview-database-away")
    expect(page.get_by_role("region", name="Queries by rcode")).to_be_visible()
    turn(page, "tokens")
    expect(page.get_by_text("The database is unavailable", exact=True)).to_be_visible()
    _objects_of_the_snapshot(page, keep)
    server.start()
    expect(page.locator("#away")).to_have_text(NO_DISPATCHER, timeout=3 * WAIT_MS)
    turn(page, "tokens")
    expect(page.locator("tbody")).to_contain_text("first")
    assert alone.dig("A", "mail.example.test") == "192.0.2.25"


def _objects_of_the_snapshot(page: Page, keep: Callable[..., None]) -> None:
    """Objects are there to look at; a change is refused in words, and what was entered stays."""
    turn(page, "clients/acme")
    expect(page.locator("h1")).to_contain_text("acme")
    turn(page, "clients")
    expect(page.locator("tbody")).to_contain_text("newsreader")
    keep(page, "database-away-clients")
    turn(page, "site")
    page.get_by_role("button", name="Edit gold").click()
    page.get_by_label("DSCP").fill("12")
    page.locator("dialog").get_by_role("button", name="Save").click()
    expect(page.locator("dialog")).to_contain_text("nothing can be changed")
    expect(page.get_by_label("DSCP")).to_have_value("12")
    keep(page, "database-away-refused")
    page.keyboard.press("Escape")


def test_the_server_goes_and_comes_back(page: Page, alone: Node) -> None:
    """Without its server the page says so and stays; a restarted server knows the session, so it goes on by itself."""
    expect(page.locator("#away")).to_contain_text(NO_DISPATCHER)
    alone.stop()
    expect(page.locator("#away")).to_contain_text("does not answer", timeout=WAIT_MS)
    expect(page.locator("#cluster-web")).to_be_visible()
    alone.start()
    expect(page.locator("#away")).to_have_text(NO_DISPATCHER, timeout=3 * WAIT_MS)
    page.get_by_role("button", name="Rotate").click()
    page.click("[data-action=confirm]")
    expect(page.locator(".toast.good, .toast:not(.bad)").first).to_be_visible()
    page.reload()
    expect(page.locator("#cluster-web")).to_be_visible()
