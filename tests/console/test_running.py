from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.console.conftest import WAIT_MS, Open, turn
from tests.console.site import Site
from tests.node.serving import within


def state(at_work: Site, server: str) -> str:
    pool, _, name = server.partition("/")
    found: str = at_work.node.curl("GET", f"pools/{pool}/servers/{name}")[1]["state"]
    return found


def test_draining_a_server(visit: Open, at_work: Site) -> None:
    """One click drains, undo puts it up again; a weight is changed where it stands."""
    page = visit("servers")
    page.get_by_role("button", name="Drain slow-2").click()
    expect(page.get_by_text("slow-2 is draining")).to_be_visible()
    assert state(at_work, "slow/slow-2") == "drain"
    expect(page.get_by_role("button", name="Bring up slow-2")).to_be_visible()
    page.click("[data-action=undo]")
    within(10, lambda: state(at_work, "slow/slow-2") == "up")
    weight = page.get_by_label("Weight of slow-2")
    weight.fill("70")
    weight.press("Enter")
    expect(page.get_by_text("slow-2 has weight 70")).to_be_visible()
    assert at_work.node.curl("GET", "pools/slow/servers/slow-2")[1]["weight"] == 70


def test_a_server_added_and_removed(visit: Open, at_work: Site) -> None:
    """A server is added with its errors at the fields, and removed again."""
    page = visit("servers", log=False)
    page.locator("#pool-fast").get_by_role("button", name="Add server").click()
    page.locator("dialog").get_by_label("Name").fill("fast-9")
    page.get_by_label("Address", exact=True).fill("nowhere")
    page.get_by_role("button", name="Create").click()
    expect(page.locator("dialog [data-path=address] > .error")).not_to_be_empty()
    page.get_by_label("Address", exact=True).fill("fd00:10::19")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_text("fast-9 created")).to_be_visible()
    assert state(at_work, "fast/fast-9") == "up"
    page.get_by_role("button", name="Edit fast-9").click()
    page.get_by_role("button", name="Remove").click()
    page.click("[data-action=confirm]")
    expect(page.get_by_text("fast-9 removed")).to_be_visible()
    assert at_work.node.curl("GET", "pools/fast/servers/fast-9")[0] == 404


def test_a_rotation_watched_live(visit: Open, at_work: Site) -> None:
    """After one click the timeline has a new epoch, which becomes active, while the one before retires."""
    page = visit("keys")
    card = page.locator("#cluster-web")
    expect(card.locator("tbody tr")).to_have_count(1)
    before = at_work.address()
    card.get_by_role("button", name="Rotate").click()
    page.click("[data-action=confirm]")
    expect(page.get_by_text("A new key of web is published")).to_be_visible()
    expect(card.locator("tbody tr")).to_have_count(2)
    expect(card.locator("tbody")).to_contain_text("retiring")
    expect(card.locator("rect.epoch-retiring")).to_have_count(1)
    expect(card.locator("rect.epoch-active")).to_have_count(2)
    expect(card.get_by_role("img")).to_have_attribute("aria-label", "Epochs of web: slot 1 active, slot 0 retiring")
    assert at_work.address() != before


def test_a_rotation_waits_for_a_dispatcher(visit: Open, at_work: Site, keep: Callable[..., None]) -> None:
    """While the dispatcher is stuck the page says so, and that a new key waits for it; then it goes on by itself."""
    if at_work.dispatcher is None:
        pytest.skip("no TUN device or namespaces on this machine, so no dispatcher")
    page = visit("keys")
    card = page.locator("#cluster-web")
    expect(card.locator("tbody")).to_contain_text("active")
    expect(card.locator("tbody")).not_to_contain_text("no live node")  # the dispatcher has reported
    before = card.locator("tbody tr").count()
    at_work.dispatcher.send_signal(signal.SIGSTOP)
    try:
        card.get_by_role("button", name="Rotate").click()
        page.click("[data-action=confirm]")
        expect(card.locator(".waiting")).to_contain_text("waiting for")
        expect(card.locator("tbody")).to_contain_text("published")
        keep(page, "keys-waiting")
        expect(page.locator("#away")).to_contain_text("dispatcher of this machine does not answer", timeout=WAIT_MS)
    finally:
        at_work.dispatcher.send_signal(signal.SIGCONT)
    expect(card.locator("tbody tr")).to_have_count(before + 1)
    expect(card.locator("tbody")).not_to_contain_text("published", timeout=WAIT_MS)
    expect(page.locator("#away")).to_be_empty(timeout=WAIT_MS)


def test_charts_show_the_traffic(visit: Open, at_work: Site) -> None:
    """Tiers and rcodes of the questions that dig asks are drawn with their rates."""
    page = visit()
    figure = lambda name: page.get_by_role("region", name=name).get_by_role("img")  # noqa: E731
    for word in ("gold", "standard", "anonymous"):
        expect(page.get_by_role("region", name="Answers by tier").locator(".legend")).to_contain_text(word)
    for word in ("NOERROR", "NXDOMAIN", "REFUSED"):
        expect(page.get_by_role("region", name="Queries by rcode").locator(".legend")).to_contain_text(word)
    assert figure("Answers by tier").locator("path").count() >= 6
    if at_work.dispatcher is None:
        pytest.skip("no TUN device or namespaces on this machine, so no dispatcher")
    expect(page.get_by_role("region", name="New flows by tier").locator(".legend")).to_contain_text("gold")
    expect(page.get_by_role("region", name="Dropped packets by reason").locator(".legend")).to_contain_text("bad-tag")
    expect(page.get_by_role("region", name="Servers", exact=True).first).to_contain_text("healthy")
    expect(page.get_by_role("region", name="Servers", exact=True).first).to_contain_text("slow-2")


def test_zone_service_tier(visit: Open, at_work: Site) -> None:
    """A zone's text is changed and answered; a broken one is refused at the text; a tier and a service are edited."""
    page = visit("zones/example.test", log=False)
    text = page.get_by_label("Text")
    good = text.input_value()
    text.fill(good + "broken IN A 1.2.3\n")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("[data-path=text] > .error, .form-error:visible").first).not_to_be_empty()
    text.fill(good + "console IN A 192.0.2.99\n")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("example.test changed")).to_be_visible()
    within(10, lambda: at_work.node.dig("A", "console.example.test") == "192.0.2.99")
    page.click("[data-action=undo]")
    within(10, lambda: at_work.node.dig("A", "console.example.test") == "")
    turn(page, "site")
    page.get_by_role("button", name="Edit gold").click()
    page.get_by_label("DSCP").fill("64")
    page.get_by_role("button", name="Save").last.click()
    expect(page.locator("dialog [data-path=dscp] > .error")).not_to_be_empty()
    page.get_by_label("DSCP").fill("46")
    page.get_by_role("button", name="Save").last.click()
    expect(page.get_by_text("gold changed")).to_be_visible()
    assert at_work.node.curl("GET", "tiers/gold")[1]["dscp"] == 46
    page.get_by_role("button", name="Edit gold").click()
    page.get_by_label("DSCP").fill("10")
    assert at_work.node.curl("PATCH", "tiers/gold", {"dscp": 34})[0] == 200
    page.get_by_role("button", name="Save").last.click()
    expect(page.locator("dialog .form-error")).to_contain_text("has changed")
    assert at_work.node.curl("GET", "tiers/gold")[1]["dscp"] == 34
    page.keyboard.press("Escape")
    turn(page, "services")
    page.get_by_role("button", name="Edit www.example.test").click()
    page.get_by_label("IPv4 cluster").select_option("")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("www.example.test changed")).to_be_visible()
    assert at_work.node.curl("GET", "services/www.example.test")[1]["cluster4"] is None
    page.locator("[data-action=undo]").last.click()
    within(10, lambda: at_work.node.curl("GET", "services/www.example.test")[1]["cluster4"] == "legacy")


def test_a_token_with_a_scope(visit: Open, at_work: Site) -> None:
    """A token is made with a scope and its narrowings; what is wrong in it is said at its field."""
    page = visit("tokens", log=False)
    page.get_by_role("button", name="New token").click()
    form = page.locator("dialog form")
    form.get_by_label("Name", exact=True).fill("scoped")
    expect(form.get_by_label("Match")).to_have_count(0)
    form.get_by_label("Permissions").select_option("scope")
    for label, text in (("Actions", "read, write"), ("Kinds", "client tier"), ("Clients", "acme*"), ("Tiers", "Gold!")):
        form.get_by_label(label, exact=True).fill(text)
    form.locator("[data-path=scopes]").get_by_label("Networks", exact=True).fill("192.0.2.0/24, 2001:db8::/32")
    form.get_by_role("button", name="Create", exact=True).click()
    expect(form.locator("[data-path=tiers] > .error")).not_to_be_empty()
    form.get_by_label("Tiers", exact=True).fill("gold")
    form.get_by_role("button", name="Create", exact=True).click()
    expect(page.locator("dialog .copy span")).to_be_visible()
    (scope,) = at_work.node.curl("GET", "tokens/scoped")[1]["scopes"]
    assert (scope["actions"], scope["kinds"]) == (["read", "write"], ["client", "tier"])
    assert (scope["clients"], scope["tiers"], scope["zones"]) == (["acme*"], ["gold"], ["*"])
    assert scope["networks"] == ["192.0.2.0/24", "2001:db8::/32"]
    assert at_work.node.curl("DELETE", "tokens/scoped")[0] == 204


def test_tokens_and_audit(visit: Open, at_work: Site) -> None:
    """A token is shown once, used, removed; the audit tells who did it, and finds it by kind and name."""
    page = visit("tokens")
    page.get_by_role("button", name="New token").click()
    page.locator("dialog").get_by_label("Name").fill("from-the-browser")
    page.get_by_role("button", name="Create", exact=True).click()
    clear = page.locator("dialog .copy span").inner_text()
    assert at_work.node.curl("GET", "tiers", token=clear)[0] == 200
    page.get_by_role("button", name="Done").click()
    expect(page.locator("dialog")).to_have_count(0)
    assert page.content().count(clear) == 0
    page.get_by_role("button", name="Renew from-the-browser").click()
    page.click("[data-action=confirm]")
    renewed = page.locator("dialog .copy span").inner_text()
    assert at_work.node.curl("GET", "tiers", token=clear)[0] == 401
    assert at_work.node.curl("GET", "tiers", token=renewed)[0] == 200
    page.get_by_role("button", name="Done").click()
    page.get_by_role("button", name="Remove from-the-browser").click()
    page.click("[data-action=confirm]")
    expect(page.get_by_text("from-the-browser removed")).to_be_visible()
    assert at_work.node.curl("GET", "tiers", token=renewed)[0] == 401
    turn(page, "audit")
    page.get_by_label("Kind").select_option("token")
    page.get_by_label("Name of the object").fill("from-the-browser")
    expect(page.locator(".audit li")).to_have_count(3)
    expect(page.locator(".audit li").first).to_contain_text("removed")
    expect(page.locator(".audit li").first).to_contain_text("by token first")
    source = at_work.node.curl("GET", "audit?kind=token&limit=1")[1]["items"][0]["source"]
    page.get_by_label("Source address").fill("192.0.2.200")
    expect(page.get_by_text("Nothing matches")).to_be_visible()
    page.get_by_label("Source address").fill(source)
    expect(page.locator(".audit li")).to_have_count(3)


def test_a_token_that_may_little(visit: Open, at_work: Site) -> None:
    """The console offers a token what its scopes allow, and nothing else."""
    status, created = at_work.node.curl("POST", "tokens", {"name": "looker", "role": "viewer"})
    assert status == 201, created
    page = visit("clients", signed_in=False, log=False)
    page.fill("#token", created["token"])
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Clients")
    expect(page.get_by_role("link", name="New client")).to_have_count(0)
    expect(page.locator(".side nav").get_by_role("link", name="Tokens", exact=True)).to_have_count(0)
    turn(page, "servers")
    expect(page.get_by_text("slow-1", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Drain slow-1")).to_have_count(0)


def test_a_token_for_some_clients(visit: Open, at_work: Site) -> None:
    """What a token may change is offered for the objects that its scopes name, and not for others."""
    scope = {"actions": ["read", "write"], "kinds": ["client", "tier"], "clients": ["client-02*"]}
    anything = {"actions": ["read"], "kinds": ["client"]}
    status, created = at_work.node.curl("POST", "tokens", {"name": "narrow", "scopes": [scope, anything]})
    assert status == 201, created
    page = visit("clients/client-020", signed_in=False, log=False)
    page.fill("#token", created["token"])
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Save")).to_be_visible()
    turn(page, "clients/client-030")
    expect(page.get_by_label("Tier")).to_be_disabled()
    expect(page.get_by_role("button", name="Save")).to_have_count(0)
    expect(page.get_by_role("button", name="Revoke")).to_have_count(0)


def test_the_load_of_an_open_page_is_bounded(visit: Open) -> None:
    """However much is changed, the page asks for what is new about every second, one question at a time."""
    page = visit("servers")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/console/live" in request.url else None)
    for weight in range(51, 57):
        page.get_by_label("Weight of slow-2").fill(str(weight))
        page.keyboard.press("Enter")
        expect(page.get_by_text(f"slow-2 has weight {weight}", exact=True)).to_be_visible()
    asked.clear()
    page.wait_for_timeout(5000)
    assert 1 <= len(asked) <= 6
