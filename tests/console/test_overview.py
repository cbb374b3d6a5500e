"""The overview tells the truth within seconds: of whom its figures are, what is wrong, and what to do about it."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests import preloaded
from tests.console.conftest import WAIT_MS, Open
from tests.console.site import Site
from tests.console.test_look import flaws
from tests.long import long_or
from tests.node.serving import NODE, Node, node
from tests.ports import free_port

SECONDS = 5.0
"""How long the overview may take to tell the truth."""
BUSY = 3.0
"""More, for a machine that does other things as well."""
MANY = long_or(5_000, long=1_000_000)
LISTS = ("Top names", "Top resolvers", "Top clients", "Top sources of dropped packets")


def rows(page: Page, title: str) -> Locator:
    """The rows of one of the lists of what there is most of."""
    return page.get_by_role("region", name=title).locator(".most li")


def told(act: Callable[[], object], place: Locator, text: str | re.Pattern[str]) -> None:
    """Do something; the page says so in time."""
    start = time.monotonic()
    act()
    expect(place).to_contain_text(text, timeout=WAIT_MS)
    assert time.monotonic() - start < SECONDS + BUSY


@contextmanager
def second(first: Node, name: str) -> Iterator[preloaded.Process]:
    """Another DNS node of a node's site, on the same database."""
    folder = first.folder / name
    folder.mkdir()
    text = NODE.partition("[admin]")[0].replace("sqlite:///dnsvip.db", f"sqlite:///{first.folder}/dnsvip.db")
    port = free_port()
    (folder / "node.toml").write_text(f'node = "{name}"\n' + text.format(dns=port))
    (folder / "dnsvip.key").write_bytes((first.folder / "dnsvip.key").read_bytes())
    (folder / "dnsvip.key").chmod(0o600)
    with (folder / "log").open("wb") as log:
        process = preloaded.start("serve", "node.toml", folder=folder, out=log, error=log)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(30)


def test_what_there_is_most_of(visit: Open, at_work: Site, keep: Callable[..., None]) -> None:
    """Names, resolvers, clients and who is refused, with addresses truncated as in the logs; of one node and a day."""
    if at_work.dispatcher is None:
        pytest.skip("no TUN device or namespaces on this machine, so no dispatcher")
    page = visit()
    for title in LISTS:
        expect(rows(page, title).first).to_be_visible(timeout=2 * WAIT_MS)
    expect(rows(page, "Top names").first).to_contain_text("www.example.test.")
    expect(page.get_by_role("region", name="Top names")).to_contain_text("(in no zone of the site)")
    expect(page.get_by_role("region", name="Top names")).not_to_contain_text("elsewhere")
    expect(rows(page, "Top resolvers")).to_contain_text(["127.0.0.0/24"])
    expect(rows(page, "Top clients").first).to_contain_text("bit/s")
    expect(rows(page, "Top sources of dropped packets").first).to_contain_text(re.compile("2001:db8:77::/48bad-tag"))
    states = page.locator("[data-key=Servers]")
    expect(states.locator("[data-state=failing]")).to_contain_text("1")
    expect(states.locator("[data-state=healthy]")).to_contain_text("2")
    queries = page.locator("[data-key=Queries] .figure-value")
    name = page.get_by_label("Figures of").locator("option").nth(1).get_attribute("value") or ""
    page.get_by_label("Figures of").select_option(name)
    expect(page).to_have_url(re.compile("node="))
    expect(queries).to_contain_text(re.compile(r"\d"))
    page.get_by_role("button", name="24 h").click()
    expect(page).to_have_url(re.compile("span=24h"))
    expect(page.get_by_role("region", name="Queries by rcode").locator("text", has_text="1 d ago")).to_be_visible()
    page.get_by_role("button", name="10 min").click()
    expect(queries).to_contain_text(re.compile(r"\d"))
    assert flaws(page) == []
    keep(page, "overview-most")


def test_servers_by_their_state(visit: Open, at_work: Site) -> None:
    """What is drained, in maintenance and failing is counted apart."""
    if at_work.dispatcher is None:
        pytest.skip("no TUN device or namespaces on this machine, so no dispatcher")
    page = visit()
    states = page.locator("[data-key=Servers]")
    expect(states.locator("[data-state=healthy]")).to_contain_text("2", timeout=WAIT_MS)
    for verb, state in (("drain", "draining"), ("maint", "maintenance")):
        told(lambda verb=verb: at_work.node.noun("servers", verb, "slow/slow-1"), states, f"1{state}")
    assert at_work.node.noun("servers", "up", "slow/slow-1").returncode == 0
    expect(states).not_to_contain_text(re.compile("draining|maintenance"), timeout=WAIT_MS)


def test_a_narrowed_token(visit: Open, at_work: Site, keep: Callable[..., None]) -> None:
    """It sees the names of its zones alone, and is told of what else there is that it may not see it."""
    scopes: list[dict[str, Any]] = [
        {
            "actions": ["read"],
            "kinds": ["status", "tier", "client", "zone", "service"],
            "clients": ["client-00*"],
            "zones": ["elsewhere.test"],
        },
    ]
    status, answer = at_work.node.curl("POST", "tokens", {"name": "overview-partner", "scopes": scopes})
    assert status == 201, answer
    page = visit("overview", token=answer["token"])
    expect(page.locator(".hidden-note")).to_contain_text("What this token may not see")
    for title in ("Top resolvers", "Top sources of dropped packets") if at_work.dispatcher else ("Top resolvers",):
        expect(page.get_by_role("region", name=title)).to_contain_text("This token may not see everybody's networks")
    expect(page.get_by_role("region", name="Top names")).not_to_contain_text("example.test")
    expect(page.locator("#page")).not_to_contain_text(re.compile("127.0.0.0/24|acme|2001:db8:77"))
    assert flaws(page) == []
    keep(page, "overview-narrowed")


def test_a_paused_dns_node(visit: Open, at_work: Site, keep: Callable[..., None]) -> None:
    """One that does not report is named before its lease is over, with where to look; then it goes on by itself."""
    page = visit()
    alarm = page.locator(".alarm")
    with second(at_work.node, "paused-node") as process:
        scope = page.get_by_label("Figures of").locator("option", has_text="paused-node")
        expect(scope).to_be_attached(timeout=2 * WAIT_MS)
        time.sleep(1)
        late = re.compile(r"Node paused-node \(dns\) has not reported for \d s: .* systemctl status dnsvip-serve")
        seen: list[bool] = []
        while not any(seen) and len(seen) < 3:  # a busy machine may miss the two seconds in which it is late only
            told(lambda: process.send_signal(signal.SIGSTOP), alarm, re.compile("Node paused-node"))
            seen.append(bool(late.search(alarm.inner_text())))
            if not seen[-1]:
                process.send_signal(signal.SIGCONT)
                expect(page.locator(".alarm", has_text="paused-node")).to_have_count(0, timeout=WAIT_MS)
        assert any(seen)
        keep(page, "overview-paused")
        expect(alarm).to_contain_text("Node paused-node (dns) has stopped reporting", timeout=WAIT_MS)
        process.send_signal(signal.SIGCONT)
        expect(page.locator(".alarm", has_text="paused-node")).to_have_count(0, timeout=WAIT_MS)
    at_work.node.noun("nodes", "forget", "paused-node")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_many_clients(browser: Any, tmp_path_factory: pytest.TempPathFactory, keep: Callable[..., None]) -> None:
    """With very many clients (a million with DNSVIP_LONG) a change of one is on the overview as soon as with few."""
    with node(tmp_path_factory.mktemp("many")) as made:
        form = '[client.many-{0}]\nid = {1}\ntier = "standard"\n'
        with (made.folder / "site.toml").open("a") as site:
            site.writelines(form.format(number, 5000 + number) for number in range(MANY))
        done = preloaded.run("apply", "site.toml", "--config", "node.toml", folder=made.folder, timeout=600)
        assert done.returncode == 0, done.stderr
        made.start("--token-file", "token")
        context = browser.new_context(viewport={"width": 1360, "height": 860})
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{made.api}/console/")
        page.fill("#token", made.token)
        page.keyboard.press("Enter")
        figure = page.locator("[data-key=Clients] .figure-value")
        expect(figure).to_have_text(f"{MANY + 2:,}", timeout=3 * WAIT_MS)
        expect(page.locator(".alarm.bad")).to_contain_text("systemctl start dnsvip-dispatch")
        expect(page.locator("#away")).to_be_hidden()  # the alarm says it already
        told(lambda: made.curl("DELETE", "clients/many-7"), figure, f"{MANY + 1:,}")
        keep(page, "overview-many")
        page.evaluate("location.hash = '#/clients'")
        expect(page.locator("#away.bad")).to_be_visible()
        context.close()
