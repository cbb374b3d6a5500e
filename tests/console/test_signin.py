from __future__ import annotations

from playwright.sync_api import expect

from tests.console.conftest import Open
from tests.console.site import Site


def test_signing_in(visit: Open, at_work: Site) -> None:
    """A token opens the console; the browser keeps it nowhere that a script could read, and a reload stays inside."""
    page = visit("clients")
    expect(page.locator("h1")).to_have_text("Clients")
    kept = page.evaluate(
        "[document.cookie, JSON.stringify(localStorage), JSON.stringify(sessionStorage), location.href]"
    )
    assert at_work.node.token not in "".join(kept)
    assert kept[0] == ""
    (cookie,) = page.context.cookies()
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    assert at_work.node.token not in cookie["value"]
    page.reload()
    expect(page.locator("h1")).to_have_text("Clients")


def test_a_wrong_token(visit: Open) -> None:
    """It is said at the field, and another may be tried at once."""
    page = visit(signed_in=False, log=False)
    page.fill("#token", "dnsvip_wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#token-error")).to_contain_text("not known")
    expect(page.locator("#token")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#token")).to_be_focused()


def test_signing_out(visit: Open) -> None:
    """The session is over: going back shows the sign-in page."""
    page = visit("audit")
    page.click("#sign-out")
    expect(page.locator("#token")).to_be_visible()
    assert page.context.cookies() == []


def test_the_end_of_a_token_is_the_end_of_its_sessions(visit: Open, at_work: Site) -> None:
    """An open console is back at the sign-in page with its next request, and says why."""
    _, made = at_work.node.curl("POST", "tokens", {"name": "short-lived"})
    page = visit(signed_in=False, log=False)
    page.fill("#token", made["token"])
    page.keyboard.press("Enter")
    page.wait_for_selector(".shell h1")
    assert at_work.node.curl("DELETE", "tokens/short-lived")[0] == 204
    expect(page.locator("#token-error")).to_contain_text("not (or no longer) known")
    expect(page.locator(".shell")).to_have_count(0)


def test_a_page_of_another_site_can_do_nothing(visit: Open, at_work: Site) -> None:
    """A page elsewhere neither reads by the visitor's cookie nor changes anything, nor shows the console in a frame."""
    page = visit(log=False)
    other = page.context.new_page()
    other.route("http://evil.test/", lambda route: route.fulfill(body="<h1>evil</h1>", content_type="text/html"))
    other.goto("http://evil.test/")
    before = at_work.node.curl("GET", "clients/newsreader")[1]
    script = """async (url) => {
        const options = {method: "PATCH", credentials: "include", mode: "no-cors", body: '{"tier": "gold"}'};
        const patched = await fetch(url + "api/v1/clients/newsreader", options).then(() => "sent", () => "refused");
        const read = await fetch(url + "api/v1/tokens", {credentials: "include"}).then(() => "read", () => "refused");
        return [patched, read];
    }"""
    assert other.evaluate(script, at_work.url.removesuffix("console/"))[1] == "refused"
    assert at_work.node.curl("GET", "clients/newsreader")[1] == before
    other.evaluate(
        "url => { const f = document.createElement('iframe'); f.src = url; document.body.append(f); }", at_work.url
    )
    other.wait_for_timeout(500)
    assert not any(frame.locator("#app").count() for frame in other.frames[1:])
