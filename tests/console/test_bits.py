"""The bar of bits in the form of a cluster: dragged, moved by keys or typed; the tag gets what is left."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address, ip_network

from playwright.sync_api import Locator, Page, expect

from tests.console.conftest import PHONE, Open
from tests.console.site import Site
from tests.console.test_look import flaws


def widths(page: Page) -> dict[str, int]:
    """What the segments of the bar say."""
    segments = page.locator(".bitbar .segment").all()
    return {one.locator("span").inner_text(): int(one.locator("b").inner_text()) for one in segments}


def bits_of(page: Page, row: int) -> Locator:
    """Where the width of a field is typed."""
    return page.locator(".bits-panel + [data-path=layout] .form-row").nth(row).locator("input").last


def tag_of(page: Page) -> Locator:
    """Where that of the tag is."""
    return page.locator("dialog [data-path=tag_bits] input").first


def begun(page: Page) -> None:
    """The form of a new cluster with a prefix."""
    page.get_by_role("button", name="New cluster").click()
    page.get_by_label("Name", exact=True).first.fill("bits")
    page.get_by_label("Prefix").fill("2001:db8:f:7::/64")
    page.get_by_label("Plain address").fill("2001:db8:f:7::1")


def test_a_cluster_by_its_bits(visit: Open, at_work: Site, keep: Callable[..., None]) -> None:
    """Keys and typing move bits, the sum stays 128, what follows is said; the cluster is stored as the bar shows."""
    page = visit("site")
    begun(page)
    panel = page.locator(".bits-panel")
    expect(panel).to_contain_text("All 128 bits are used; 24 are left for the tag")
    expect(panel).to_contain_text("1 in 16,777,216 as issued, 1 in 65,536 as proven")
    expect(panel).to_contain_text("16 tiers, 1,048,575 clients")
    handle = page.get_by_role("slider", name="Bits of client")
    handle.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(handle).to_have_attribute("aria-valuenow", "22")
    expect(handle).to_be_focused()
    page.get_by_role("slider", name="Bits of nonce, taken from tag").press("PageUp")
    shown = {"tier": 4, "client": 22, "expiry": 5, "nonce": 10, "tag": 20}
    assert {name: bits for name, bits in widths(page).items() if name in shown} == shown
    bits_of(page, 0).fill("6")
    expect(panel).to_contain_text("18 are left for the tag")
    expect(tag_of(page)).to_have_value("18")
    expect(panel.locator(".bitmap")).to_be_visible()
    expect(panel).to_contain_text("after a rotation")
    example = panel.locator("dd.mono, dd .mono").last.inner_text()
    assert ip_address(example) in ip_network("2001:db8:f:7::/64")
    keep(page, "cluster-bits", whole=False)
    assert flaws(page) == []
    page.get_by_label("Default tier").select_option("standard")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_text("bits created")).to_be_visible()
    stored = at_work.node.curl("GET", "clusters/bits")[1]
    assert stored["layout"] == [["tier", 6], ["client", 22], ["expiry", 5], ["nonce", 10]]
    assert stored["tag_bits"] == 18
    assert at_work.node.curl("DELETE", "clusters/bits")[0] == 204


def test_dragged(visit: Open) -> None:
    """A boundary follows the pointer as far as there is room."""
    page = visit("site")
    begun(page)
    handle = page.get_by_role("slider", name="Bits of client")
    box = handle.bounding_box()
    client = page.locator(".segment.f-client").bounding_box()
    assert box
    assert client
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - client["width"] / 2, y, steps=5)
    page.mouse.up()
    after = widths(page)
    assert 8 <= after["client"] <= 12
    assert after["client"] + after["expiry"] == 27
    assert after["tag"] == 24


def test_too_much(visit: Open) -> None:
    """What does not add up is said at once, and that of a short tag; a boundary stops where there is no room."""
    page = visit("site")
    begun(page)
    panel = page.locator(".bits-panel")
    bits = bits_of(page, 1)
    bits.fill("40")
    expect(panel).to_contain_text("Only 4 bits are left for the tag; 8 are the least.")
    bits.fill("34")
    expect(panel).to_contain_text("16 or more are advised")
    tag_of(page).fill("9")
    expect(panel).to_contain_text("The tag has 9 bits, and 10 are left for it.")
    tag_of(page).fill("10")
    handle = page.get_by_role("slider", name="Bits of nonce, taken from tag")
    for _ in range(3):
        handle.press("PageUp")
    expect(tag_of(page)).to_have_value("8")
    page.get_by_label("Address family").select_option("IPv4")
    expect(panel).to_have_count(0)


def test_on_a_phone(visit: Open, keep: Callable[..., None]) -> None:
    """All of it fits."""
    page = visit("site", viewport=PHONE, color_scheme="dark", has_touch=True)
    page.get_by_role("button", name="Edit web").click()
    expect(page.locator(".bits-panel .bitmap")).to_be_visible()
    page.locator(".bits-panel").scroll_into_view_if_needed()
    keep(page, "cluster-bits-phone", whole=False)
    assert flaws(page) == []
