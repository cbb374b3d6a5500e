from __future__ import annotations

import asyncio
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from playwright.sync_api import expect

from tests.console.conftest import Open
from tests.console.site import Site
from tests.ports import free_port


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
    _, created = at_work.node.curl("POST", "tokens", {"name": "short-lived"})
    page = visit(signed_in=False, log=False)
    page.fill("#token", created["token"])
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


@contextmanager
def tls_before(port: int, folder: Path) -> Iterator[int]:
    """A proxy on a port of its own that ends TLS and passes the bytes on as they are."""
    files = ["-keyout", folder / "key.pem", "-out", folder / "cert.pem"]
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", *files]
    subprocess.run([*argv, "-days", "1", "-subj", "/CN=127.0.0.1"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    own, ready, loop = free_port(), threading.Event(), asyncio.new_event_loop()

    async def passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, ssl.SSLError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def joined(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(passed(reader, behind[1]), passed(behind[0], writer))

    async def serve() -> None:
        async with await asyncio.start_server(joined, "127.0.0.1", own, ssl=context):
            ready.set()
            await asyncio.Event().wait()

    def run() -> None:
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(task)

    task = loop.create_task(serve())
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(20)
    try:
        yield own
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(20)


def test_under_tls(visit: Open, at_work: Site, tmp_path: Path) -> None:
    """Behind a proxy that ends TLS the browser holds a secure cookie of this host alone, and all works by it."""
    with tls_before(at_work.node.api, tmp_path) as port:
        page = visit(signed_in=False, ignore_https_errors=True)
        page.goto(f"https://127.0.0.1:{port}/")
        page.fill("#token", at_work.node.token)
        page.keyboard.press("Enter")
        expect(page.locator(".shell h1")).to_have_text("Overview")
        (cookie,) = page.context.cookies()
        assert cookie["name"] == "__Host-dnsvip-session"
        assert cookie["secure"]
        page.goto(f"https://127.0.0.1:{port}/console/#/servers")
        page.get_by_label("Weight of fast-1").fill("90")
        page.keyboard.press("Enter")
        expect(page.get_by_text("fast-1 has weight 90")).to_be_visible()
        page.goto("about:blank")
