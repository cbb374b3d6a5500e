"""What others have written into the site, and what is left of a session: a page runs none of it, shows it as it is,
asks for the object that it names, and keeps nothing once the session is over."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from tests.console.conftest import DESKTOP, PHONE, Open, turn
from tests.console.site import Site

MARKUP = '"><img src="//evil.test/x" onerror="ran(1)"><svg onload="ran(2)"><script>ran(3)</script>'
UNSEEN = "\u202e\u200b\u2028\x1b[2J\x7f" + "a" + "\u0301" * 40
"""Turns what follows around, takes no room, ends the line, controls a terminal, and stands over the lines above."""

LONG = "W" * 1024
"""As long a word as an attribute may be."""

STRUCTURE = {"state", "kind", "type", "action", "actions", "next", "kinds", "mode", "algorithm", "role", "at", "name"}
"""Keys whose values are words of the program's own, or names, which have a form."""
TROUBLE = {"kind": "primary", "severity": "warning", "text": "A primary says: ", "since": None, "node": None}

WATCH = """
window.ran = (what) => console.error(`ran ${what}`);
addEventListener("securitypolicyviolation", (event) => console.error(`policy ${event.violatedDirective}`));
"""
PLACES = (
    *(
        "overview",
        "start",
        "clients",
        "clients/acme",
        "servers",
        "services",
        "zones",
        "zones/example.test",
        "dnsgroups",
    ),
    *("tsig", "dnstokens", "keys", "nodes", "site", "tokens", "audit", "usage", "search?q=a"),
    *("explain?qname=www.example.test&source=127.0.0.1", "address?address=2001:db8:a:1::1"),
)
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
SIGNED_IN = "[document.body.innerText, ...[...document.querySelectorAll('input')].map((each) => each.value)].join()"


def spoilt(value: Any, key: str = "") -> Any:
    """An answer with something hostile at the end of each text."""
    match value:
        case dict():
            return {name: spoilt(part, name) for name, part in value.items()}
        case list():
            return [spoilt(part, key) for part in value]
        case str() if key not in STRUCTURE:
            return value + MARKUP + UNSEEN + LONG
    return value


def spoil(context: BrowserContext) -> None:
    """Have all answers of the API spoilt but its own description."""

    def answer(route: Route) -> None:
        response = route.fetch()
        if "json" in response.headers.get("content-type", "") and "openapi" not in route.request.url:
            found = response.json()
            found.get("troubles", []).append(TROUBLE)
            route.fulfill(response=response, json=spoilt(found))
        else:
            route.fulfill(response=response)

    context.route(re.compile("/api/v1/|/console/live"), answer)


def test_texts_of_others(visit: Open, at_work: Site) -> None:
    """Whatever the texts of the site are, on no page does any of them run, ask another server, turn what stands beside
    it around, stand over what is above it, or push what is beside it out of the window."""
    page = visit(log=False)
    said, elsewhere = list[str](), list[str]()
    page.on("pageerror", lambda error: said.append(f"uncaught {error}"))
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    page.on("console", lambda one: said.append(one.text) if one.text.startswith(("ran", "policy")) else None)
    page.on("request", lambda one: elsewhere.append(one.url) if "//127.0.0.1" not in one.url else None)
    page.add_init_script(WATCH)
    page.reload()
    page.wait_for_selector(".shell h1")
    spoil(page.context)
    shown, wide = "", list[str]()
    for place in PLACES:
        turn(page, place)
        expect(page.locator("#page .loading")).to_have_count(0)
        shown += page.locator("#page").inner_text()
        for size in (PHONE, DESKTOP):
            page.set_viewport_size(size)  # type: ignore[arg-type]
            if page.evaluate(WIDER) > 0:
                wide.append(place)
    page.context.unroute_all(behavior="wait")
    assert (said, elsewhere, wide) == ([], [], [])
    assert "<script>" in shown
    assert "\\226\\128\\174" in shown
    assert not set("\u202e\u200b\u2028\x1b\x7f") & set(shown)
    assert "\u0301" * 5 not in shown


@pytest.mark.parametrize(
    ("before", "after", "patch"),
    [
        ('{"a": {"__proto__": "x", "b": 1}}', '{"a": {"b": 1}}', '{"a":{"__proto__":null}}'),
        ('{"a": {}}', '{"a": {"__proto__": "x"}}', '{"a":{"__proto__":"x"}}'),
        ('{"a": {}}', '{"a": {"constructor": "x"}}', '{"a":{"constructor":"x"}}'),
    ],
    ids=["removed", "added", "constructor"],
)
def test_keys_that_objects_have_by_themselves(visit: Open, before: str, after: str, patch: str) -> None:
    """An attribute may be called as what every object of a script has: it is changed, and brought back, like others."""
    page = visit(signed_in=False)
    made, back = page.evaluate(
        """async ([before, after]) => {
            const {difference, inverse} = await import("/console/js/forms/patch.js");
            const patch = difference(JSON.parse(before), JSON.parse(after));
            return [JSON.stringify(patch), JSON.stringify(inverse(JSON.parse(before), patch))];
        }""",
        [before, after],
    )
    assert made == patch
    ((name, _),) = json.loads(patch)["a"].items()
    assert json.loads(back) == {"a": {name: json.loads(before)["a"].get(name)}}


def test_names_that_objects_have_by_themselves(visit: Open) -> None:
    """A tier, or a field of a layout, may be called so too."""
    page = visit(signed_in=False)
    colour, bits = page.evaluate(
        """async () => {
            const {colourOf} = await import("/console/js/draw/colours.js");
            const {bitsOf} = await import("/console/js/bits/bits.js");
            return [colourOf("constructor"), bitsOf([["constructor", 4], ["tier", 2]], {tier: 1}).bits];
        }"""
    )
    assert colour in range(1, 9)
    assert bits == "000001"


def test_the_root_zone(visit: Open) -> None:
    """Its name is a dot, which a browser takes out of a path: it is asked for as =2E, and no other object is."""
    page = visit(log=False)
    asked = list[str]()

    def answer(route: Route) -> None:
        asked.append(route.request.url.partition("/api/v1/")[2])
        route.fulfill(status=404, json={"title": "not here", "status": 404})

    page.context.route("**/api/v1/zones/**", answer)
    turn(page, "zones/.")
    assert asked
    assert {path.partition("?")[0] for path in asked} <= {"zones/=2E", "zones/=2E/keys", "zones/=2E/ds"}


def enter(page: Page, token: str) -> None:
    """Sign in at the sign-in page."""
    page.fill("#token", token)
    page.keyboard.press("Enter")
    page.wait_for_selector(".shell h1")


def test_nothing_is_left_of_a_session(visit: Open, at_work: Site) -> None:
    """Once somebody signs out in another tab, this one is at the sign-in page, and what it showed once is gone."""
    page = visit("tokens", log=False)
    page.get_by_role("button", name="New token").click()
    page.locator("dialog input").first.fill("shown-once")
    page.locator("dialog [type=submit]").click()
    expect(page.locator("dialog")).to_contain_text("the only time")
    other = page.context.new_page()
    other.goto(at_work.url)
    other.click("#sign-out")
    expect(page.locator("#token")).to_be_visible()
    expect(page.locator("dialog")).to_have_count(0)
    assert "dnsvip_" not in page.evaluate(SIGNED_IN)
    assert at_work.node.curl("DELETE", "tokens/shown-once")[0] == 204


def test_the_end_of_a_session_closes_what_is_open(visit: Open, at_work: Site) -> None:
    """A dialog over the sign-in page would keep what it shows, and keep anybody from signing in."""
    _, made = at_work.node.curl("POST", "tokens", {"name": "ends-soon"})
    page = visit("tokens", token=made["token"], log=False)
    page.get_by_role("button", name="New token").click()
    expect(page.locator("dialog")).to_be_visible()
    assert at_work.node.curl("DELETE", "tokens/ends-soon")[0] == 204
    expect(page.locator("#token-error")).to_contain_text("not (or no longer) known")
    expect(page.locator("dialog")).to_have_count(0)


def test_somebody_else_signs_in(visit: Open, at_work: Site) -> None:
    """The cookie is of all tabs: this one shows who is signed in now, and not what the one before could see."""
    _, made = at_work.node.curl("POST", "tokens", {"name": "looks-only", "role": "client-editor"})
    page = visit(signed_in=False, log=False)
    other = page.context.new_page()
    other.goto(at_work.url)
    enter(page, at_work.node.token)
    enter(other, made["token"])
    expect(page.locator(".side")).to_contain_text("token looks-only")
    assert at_work.node.curl("DELETE", "tokens/looks-only")[0] == 204


def test_a_page_that_comes_back(visit: Open) -> None:
    """A browser may bring a page back as it was left, from before its session ended: it begins anew."""
    page = visit("clients", log=False)
    with page.expect_navigation():
        page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    page.wait_for_selector(".shell h1")
