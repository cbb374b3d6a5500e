"""The explain page and the address explorer say which rule decides where a flow goes."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.console.conftest import Open
from tests.console.site import Site
from tests.node.serving import within

ASKED = "explain?qname=www.example.test&source=127.0.0.1&ecs=198.51.100.7"


def test_the_rule_that_decides(visit: Open, at_work: Site) -> None:
    """Both name the rule with its conditions once a cluster has one that fits, and nothing where the tier decides."""
    (flow,) = at_work.node.curl("GET", ASKED)[1]["flows"]
    rule = {"when": {"tier": [flow["tier"]]}, "pool": flow["pool"]}
    page = visit(ASKED)
    expect(page.locator("dt", has_text="Pool")).to_be_visible()
    expect(page.locator("dt", has_text="Decided by")).to_have_count(0)
    assert at_work.node.curl("PATCH", "clusters/web", {"select": [rule]})[0] == 200
    try:
        within(20, lambda: at_work.node.curl("GET", ASKED)[1]["flows"][0]["rule"] == "1")
        page.get_by_role("button", name="Explain").click()
        decided = page.locator("dt", has_text="Decided by").locator("+ dd")
        expect(decided).to_have_text(f"rule 1 fits first: tier {flow['tier']}")
        page.get_by_role("link", name="Open in the address explorer").click()
        expect(page.locator("dt", has_text="Rule").locator("+ dd")).to_have_text("1")
    finally:
        assert at_work.node.curl("PATCH", "clusters/web", {"select": []})[0] == 200
