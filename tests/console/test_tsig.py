from __future__ import annotations

import base64
import re
import sqlite3

from playwright.sync_api import Page, expect

from tests.console.conftest import Open, arrived, turn
from tests.console.site import Site
from tests.console.test_look import flaws
from tests.node.serving import within

SHOWN = re.compile(r'^key "(\S+)" \{ algorithm (\S+); secret "(\S+)"; \};$')


def shown(page: Page) -> tuple[str, str, str]:
    """Name, algorithm and secret in the dialog that shows a key once."""
    found = SHOWN.match(page.locator("dialog .copy span").inner_text())
    assert found
    name, algorithm, secret = found.groups()
    return name, algorithm, secret


def answered(at_work: Site, key: tuple[str, str, str]) -> bool:
    """Whether the server takes a query that is signed with the key."""
    name, algorithm, secret = key
    return at_work.node.dig("A", "mail.example.test", "-y", f"{algorithm}:{name}:{secret}") == "192.0.2.25"


def test_a_key_that_cannot_be_read_is_removed(visit: Open, at_work: Site) -> None:
    """It stands in the list with what is wrong, and goes by its button there."""
    assert at_work.node.curl("PUT", "tsig/broken", {"secret": base64.b64encode(bytes(32)).decode()})[0] == 201
    with sqlite3.connect(at_work.node.folder / "dnsvip.db", timeout=30) as database:
        database.execute("UPDATE tsig SET spec = 'no JSON' WHERE name = 'broken'")
    page = visit("tsig")
    expect(page.get_by_text("cannot be read").first).to_be_visible()
    page.get_by_role("button", name="Remove broken").click()
    page.click("[data-action=confirm]")
    expect(page.get_by_text("broken removed")).to_be_visible()
    expect(page.get_by_text("cannot be read")).to_have_count(0)
    assert at_work.node.curl("GET", "tsig/broken")[0] == 404


def test_a_token_that_cannot_be_read(visit: Open, at_work: Site) -> None:
    """It is shown as such, not as one that may do everything, and goes by its button; nobody is offered to renew it."""
    assert at_work.node.curl("POST", "tokens", {"name": "spoilt", "role": "viewer"})[0] == 201
    with sqlite3.connect(at_work.node.folder / "dnsvip.db", timeout=30) as database:
        database.execute("UPDATE token SET scopes = '{' WHERE name = 'spoilt'")
    page = visit("tokens")
    row = page.locator("tr", has_text="spoilt")
    expect(row.get_by_text("cannot be read").first).to_be_visible()
    expect(row.get_by_text("everything")).to_have_count(0)
    expect(page.get_by_role("button", name="Renew spoilt")).to_have_count(0)
    assert flaws(page) == []
    page.get_by_role("button", name="Remove spoilt").click()
    page.click("[data-action=confirm]")
    expect(page.get_by_text("spoilt removed")).to_be_visible()


def test_a_key_from_first_to_last(visit: Open, at_work: Site) -> None:
    """Made with a secret that is shown once and signs, given another algorithm and another secret, removed."""
    page = visit("tsig")
    page.get_by_role("link", name="New TSIG key").click()
    expect(page.locator("#page, dialog").get_by_label("Name")).to_be_focused()
    page.keyboard.type("Browser-Key.")
    page.keyboard.press("Enter")
    first = shown(page)
    assert first[:2] == ("browser-key", "hmac-sha256")
    assert len(base64.b64decode(first[2], validate=True)) == 32
    assert flaws(page) == []
    within(10, lambda: answered(at_work, first))
    page.get_by_role("button", name="Done").click()
    expect(page.locator("dialog")).to_have_count(0)
    expect(page.locator("h1")).to_have_text("browser-key")
    arrived(page, "tsig/browser-key")
    assert page.content().count(first[2]) == 0
    stored = "JSON.stringify([localStorage, sessionStorage, location.href])"
    assert first[2] not in page.evaluate(stored)
    assert at_work.node.curl("GET", "tsig/browser-key")[1] == {"name": "browser-key", "algorithm": "hmac-sha256"}

    page.get_by_label("Algorithm").select_option("hmac-sha512")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("browser-key changed")).to_be_visible()
    expect(page.locator(".history")).to_contain_text("hmac-sha512")
    assert at_work.node.curl("GET", "tsig/browser-key")[1]["algorithm"] == "hmac-sha512"
    page.click("[data-action=undo]")
    expect(page.get_by_label("Algorithm")).to_have_value("hmac-sha256")
    assert at_work.node.curl("GET", "tsig/browser-key")[1]["algorithm"] == "hmac-sha256"

    page.get_by_role("button", name="New secret").click()
    page.click("[data-action=confirm]")
    second = shown(page)
    assert second[2] != first[2]
    within(10, lambda: answered(at_work, second) and not answered(at_work, first))
    page.get_by_role("button", name="Done").click()
    expect(page.locator("dialog")).to_have_count(0)
    assert page.content().count(second[2]) == 0
    page.get_by_role("button", name="Remove TSIG key").click()
    page.click("[data-action=confirm]")
    expect(page.get_by_text("browser-key removed")).to_be_visible()
    expect(page.locator("h1")).to_have_text("TSIG keys")
    expect(page.locator("tbody")).to_contain_text("acme-key")
    expect(page.locator("tbody")).not_to_contain_text("browser-key")
    assert at_work.node.curl("GET", "tsig/browser-key")[0] == 404


def test_a_secret_of_ones_own(visit: Open, at_work: Site) -> None:
    """What the API refuses stands at the field, also of a name written otherwise than it is filed; a good one is taken
    and not shown back, and a second key of that name is refused."""
    page = visit("tsig/new?make=1", log=False)
    page.get_by_role("button", name="Create").click()
    expect(page.locator("[data-path=name] > .error")).to_have_text("A name is required.")
    page.locator("#page, dialog").get_by_label("Name").fill("Own-Key")
    page.get_by_label("Secret").fill("not base64!")
    page.get_by_role("button", name="Create").click()
    expect(page.locator("[data-path=secret] > .error")).to_contain_text("base64")
    expect(page.get_by_label("Secret")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("[data-path=name] > .error")).to_be_empty()
    assert flaws(page) == []
    assert at_work.node.curl("GET", "tsig/own-key")[0] == 404
    secret = base64.b64encode(b"a secret of one's own").decode()
    page.get_by_label("Secret").fill(secret)
    page.get_by_role("button", name="Create").click()
    expect(page.locator("h1")).to_have_text("own-key")
    expect(page.get_by_label("Secret")).to_have_value("")
    assert page.content().count(secret) == 0
    turn(page, "tsig/new?make=1")
    page.locator("#page, dialog").get_by_label("Name").fill("own-key")
    page.get_by_role("button", name="Create").click()
    expect(page.locator(".form-error")).to_contain_text("exists already")
    expect(page.locator("dialog")).to_have_count(0)
    assert at_work.node.curl("DELETE", "tsig/own-key")[0] == 204


def test_somebody_else_was_quicker(visit: Open, at_work: Site) -> None:
    """A form that shows an older state overwrites nothing."""
    assert at_work.node.curl("PUT", "tsig/raced-key", {"secret": "c2VjcmV0LXNlY3JldA=="})[0] == 201
    page = visit("tsig/raced-key", log=False)
    page.get_by_label("Algorithm").select_option("hmac-sha1")
    assert at_work.node.curl("PATCH", "tsig/raced-key", {"algorithm": "hmac-sha384"})[0] == 200
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".form-error")).to_contain_text("has changed")
    assert at_work.node.curl("GET", "tsig/raced-key")[1]["algorithm"] == "hmac-sha384"
    assert at_work.node.curl("DELETE", "tsig/raced-key")[0] == 204


def test_a_key_in_use_stays(visit: Open, at_work: Site) -> None:
    """A key that a client is known by is not removed, and the console says who is."""
    page = visit("tsig", log=False)
    expect(page.locator("tbody")).to_contain_text("acme-key")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("acme-key")
    page.get_by_role("button", name="Remove TSIG key").click()
    page.click("[data-action=confirm]")
    expect(page.locator(".toast.bad")).to_contain_text("client.acme")
    assert at_work.node.curl("GET", "tsig/acme-key")[0] == 200


def test_who_may_only_read(visit: Open, at_work: Site) -> None:
    """A viewer sees keys and changes none; a token without tsig is not offered the page."""
    status, made = at_work.node.curl("POST", "tokens", {"name": "tsig-looker", "role": "viewer"})
    assert status == 201, made
    page = visit("tsig", signed_in=False)
    page.fill("#token", made["token"])
    page.keyboard.press("Enter")
    expect(page.locator("tbody")).to_contain_text("acme-key")
    expect(page.get_by_role("link", name="New TSIG key")).to_have_count(0)
    page.get_by_role("link", name="acme-key").click()
    expect(page.get_by_label("Algorithm")).to_be_disabled()
    for name in ("Save", "New secret", "Remove TSIG key"):
        expect(page.get_by_role("button", name=name)).to_have_count(0)
    expect(page.locator("[data-path=secret]")).to_have_count(0)
    status, made = at_work.node.curl("POST", "tokens", {"name": "tsig-less", "role": "client-editor"})
    assert status == 201, made
    page = visit("clients", signed_in=False)
    page.fill("#token", made["token"])
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Clients")
    expect(page.locator(".side nav").get_by_role("link", name="TSIG keys")).to_have_count(0)
