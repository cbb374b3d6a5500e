"""The table of a zone's record sets: what is entered in it, and what the server then answers."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.console.conftest import PHONE, WAIT_MS, Open, turn
from tests.console.site import Site
from tests.console.test_look import COLOURS, LOOKS, RULES, flaws
from tests.node.serving import within

HEAD = "$TTL 300\n@ IN SOA ns1 hostmaster 7 7200 3600 1209600 300\n@ IN NS ns1\nns1 IN A 192.0.2.53\n"
TEXT = f"{HEAD}www IN A 192.0.2.1\nwww IN A 192.0.2.2\nold IN MX 10 mail.example.test.\n"

EXAMPLES = {
    "A": "192.0.2.256",
    "AAAA": "2001:db8:::1",
    "CNAME": "www.example.test",
    "MX": "mail.example.test.",
    "TXT": '"not closed',
    "SRV": "10 5 65536 sip.example.test.",
    "CAA": "0 issue ca.example.net",
    "NS": "ns_1.example.test.",
    "HTTPS": "1 . ALPN=h2",
    "SVCB": "x svc.example.test.",
    "PTR": "www..example.test.",
    "DS": "12345 13 2 ABCD",
    "TLSA": "3 1 1 xyz",
}
"""What each type that has help refuses."""


def make(at_work: Site, zone: str, text: str = TEXT) -> str:
    """A zone of this text; its name."""
    url = f"{at_work.node.url}/zones/{zone}"
    headers = ("-H", f"Authorization: Bearer {at_work.node.token}", "-H", "Content-Type: text/dns")
    argv = ["curl", "-sS", "--fail-with-body", "-X", "PUT", *headers, "--data-binary", "@-", url]
    done = subprocess.run(argv, input=text, text=True, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
    return zone


def sets(at_work: Site, zone: str) -> dict[tuple[str, str], list[str]]:
    """The contents of the zone's sets by name below the zone and type, as the API has them; "-" before a disabled."""
    shown = at_work.node.curl("GET", f"servers/localhost/zones/{zone}.")[1]["rrsets"]
    mark = {False: "", True: "-"}
    return {
        (each["name"].removesuffix(f"{zone}.").rstrip("."), each["type"]): sorted(
            f"{mark[record['disabled']]}{record['content']}" for record in each["records"]
        )
        for each in shown
    }


def serial(at_work: Site, zone: str) -> int:
    return int(at_work.node.curl("GET", f"servers/localhost/zones/{zone}.?rrsets=false")[1]["serial"])


def put(at_work: Site, zone: str, name: str, rtype: str, *contents: str) -> None:
    """Somebody else's edit."""
    records = [{"content": content} for content in contents]
    body = {"name": f"{name}.{zone}.", "type": rtype, "ttl": 300, "changetype": "REPLACE", "records": records}
    assert at_work.node.curl("PATCH", f"servers/localhost/zones/{zone}.", {"rrsets": [body]})[0] == 204


def open_set(page: Page, key: str) -> Locator:
    page.get_by_role("button", name=f"Edit {key}", exact=True).click()
    return page.get_by_role("dialog")


def new_set(page: Page, name: str, rtype: str, *contents: str) -> Locator:
    """Fill in the dialog for a new set."""
    page.get_by_role("button", name="Add record set").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill(name)
    dialog.get_by_label("Type").select_option(rtype)
    for number, content in enumerate(contents, 1):
        if number > 1:
            dialog.get_by_role("button", name="Add record").click()
        dialog.get_by_label(f"Record {number}", exact=True).fill(content)
    return dialog


def apply(page: Page) -> None:
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_role("dialog")).to_have_count(0)


def save(page: Page, wait: int = WAIT_MS) -> None:
    """Save the edits; the server compares them with the whole zone, for `wait` milliseconds at most."""
    page.get_by_role("button", name="Review and save").click()
    page.get_by_role("dialog").get_by_role("button", name="Save").click(timeout=wait)
    expect(page.get_by_role("dialog")).to_have_count(0, timeout=wait)


def test_edit_add_and_remove(visit: Open, at_work: Site) -> None:
    """Edits wait until their differences have been seen, are stored in one step that raises the serial, are answered
    by DNS, and are undone in one step too."""
    zone = make(at_work, "edited.test")
    before = sets(at_work, zone)
    page = visit(f"zones/{zone}")
    expect(page.locator("#records tbody tr")).to_have_count(5)
    dialog = open_set(page, f"www.{zone}. A")
    dialog.get_by_label("Record 2", exact=True).fill("192.0.2.20")
    dialog.get_by_label("Disabled").first.check()
    dialog.get_by_label("TTL").fill("60")
    dialog.get_by_role("button", name="Add record").click()
    page.keyboard.type("192.0.2.30")
    apply(page)
    new_set(page, "txt", "TXT", 'it is "quoted" here')
    apply(page)
    page.get_by_role("button", name=f"Remove old.{zone}. MX").click()
    expect(page.locator("#records .pending")).to_contain_text("3 changes not saved yet")
    assert sets(at_work, zone) == before
    page.get_by_role("button", name="Review and save").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("serial, now 7, is raised")
    diff = {kind: dialog.locator(kind).all_inner_texts() for kind in ("del", "ins")}
    text = r'"it is \"quoted\" here"'
    assert diff["del"] == ["TTL 300", "192.0.2.1", "192.0.2.2", "10 mail.example.test."]
    assert diff["ins"] == ["TTL 60", "192.0.2.1 (disabled)", "192.0.2.20", "192.0.2.30", text]
    dialog.get_by_role("button", name="Save").click()
    expect(page.get_by_text(f"3 record sets of {zone} changed")).to_be_visible()
    expect(page.locator("#records .pending")).to_be_hidden()
    assert sets(at_work, zone)["www", "A"] == ["-192.0.2.1", "192.0.2.20", "192.0.2.30"]
    assert serial(at_work, zone) == 8
    within(10, lambda: set(at_work.node.dig("A", f"www.{zone}").split()) == {"192.0.2.20", "192.0.2.30"})
    assert at_work.node.dig("TXT", f"txt.{zone}") == text
    expect(page.locator(".history li")).to_have_count(2)
    expect(page.get_by_label("Zone text")).to_have_value(re.compile("192.0.2.30"))
    page.click("[data-action=undo]")
    expect(page.locator("#records tbody tr")).to_have_count(5)
    expect(page.get_by_role("button", name=f"Remove old.{zone}. MX")).to_be_visible()
    after = sets(at_work, zone)
    assert {key: after[key] for key in after if key[1] != "SOA"} == {
        key: before[key] for key in before if key[1] != "SOA"
    }
    assert serial(at_work, zone) == 9


def test_help_and_checks_of_types(visit: Open, at_work: Site) -> None:
    """Each type has a short form and an example that the server takes; a text of another form is refused at once."""
    zone = make(at_work, "types.test")
    page = visit(f"zones/{zone}")
    shown = {}
    for rtype, wrong in EXAMPLES.items():
        dialog = new_set(page, rtype.lower(), rtype, wrong)
        page.keyboard.press("Enter")
        error = dialog.locator(".record-row .error")
        expect(error).not_to_be_empty()
        expect(dialog.get_by_label("Record 1")).to_have_attribute("aria-invalid", "true")
        shown[rtype] = dialog.locator(".type-help dd").last.inner_text()
        dialog.get_by_label("Record 1").fill(shown[rtype])
        apply(page)
    save(page)
    expect(page.get_by_text(f"{len(EXAMPLES)} record sets of {zone} changed")).to_be_visible()
    stored = sets(at_work, zone)
    assert {rtype: stored[rtype.lower(), rtype] for rtype in EXAMPLES} == {r: [text] for r, text in shown.items()}


def test_a_filter_by_name_and_type(visit: Open, at_work: Site) -> None:
    """What is searched for is part of the address, and a set that is entered is shown whatever was searched for."""
    zone = make(at_work, "searched.test")
    page = visit(f"zones/{zone}")
    rows = page.locator("#records tbody tr")
    expect(rows).to_have_count(5)
    page.get_by_label("Type").select_option("A")
    expect(rows).to_have_count(2)
    page.get_by_label("Name or record contains").fill("0.2.53")
    expect(rows).to_have_count(1)
    expect(page).to_have_url(re.compile(r"find=0\.2\.53&type=A"))
    page.reload()
    expect(rows).to_have_count(1)
    new_set(page, "fresh", "MX", "5 mail.example.test.")
    apply(page)
    expect(rows).to_have_count(6)
    page.get_by_role("button", name="Discard").click()
    expect(rows).to_have_count(5)


def test_all_faults_at_once(visit: Open, at_work: Site) -> None:
    """Those that the console finds stand at their records, those that the server finds at their sets and records, and
    nothing is stored before all are mended."""
    zone = make(at_work, "faulty.test")
    page = visit(f"zones/{zone}", log=False)
    dialog = new_set(page, "www", "A", "192.0.2.300", "192.0.2.3", "2001:db8::1")
    dialog.get_by_label("TTL").fill("-1")
    dialog.get_by_role("button", name="Apply").click()
    expect(dialog.locator("[data-path=name] > .error")).to_contain_text("has A records already")
    expect(dialog.locator("[data-path=ttl] > .error")).to_contain_text("from 0 to")
    errors = dialog.locator(".record-row .error")
    expect(errors.nth(0)).to_contain_text("192.0.2.300")
    expect(errors.nth(1)).to_be_empty()
    expect(errors.nth(2)).to_contain_text("2001:db8::1")
    dialog.get_by_role("button", name="Cancel").click()
    new_set(page, "www", "CNAME", "mail.example.test.")
    apply(page)
    new_set(page, "place", "LOC", "somewhere", "52 22 23.000 N 4 53 32.000 E -2.00m 1.00m 10000.00m 10.00m", "else")
    apply(page)
    save(page)
    faults = page.locator("#records .form-error")
    expect(faults).to_contain_text("Nothing was saved")
    expect(faults).to_contain_text(f"www.{zone}. CNAME: cannot be stored: a CNAME must be alone")
    expect(faults).to_contain_text(f"place.{zone}. LOC, record 1: cannot be stored: 'somewhere'")
    expect(faults).to_contain_text(f"place.{zone}. LOC, record 3: cannot be stored: 'else'")
    expect(page.locator("tr", has_text="place").locator(".fault")).to_have_count(2)
    assert serial(at_work, zone) == 7
    assert flaws(page) == []
    faults.get_by_role("button", name=f"place.{zone}. LOC, record 3").click()
    expect(page.get_by_role("dialog").locator(".record-row .error").nth(2)).to_contain_text("'else'")
    for _ in range(2):
        page.get_by_role("dialog").get_by_role("button", name="Remove this record").last.click()
    page.get_by_label("Record 1", exact=True).fill("52 22 23.000 N 4 53 32.000 E -2.00m 1.00m 10000.00m 10.00m")
    apply(page)
    page.get_by_role("button", name=f"Undo the change of www.{zone}. CNAME").click()
    expect(faults).to_be_hidden()
    save(page)
    expect(page.get_by_text(f"1 record set of {zone} changed")).to_be_visible()
    assert len(sets(at_work, zone)["place", "LOC"]) == 1


def test_somebody_else_edits_the_same_set(visit: Open, at_work: Site) -> None:
    """Nothing is overwritten: what has changed is shown, the entries stay, and saving again applies them."""
    zone = make(at_work, "raced.test")
    page = visit(f"zones/{zone}")
    dialog = open_set(page, f"www.{zone}. A")
    dialog.get_by_label("Record 1", exact=True).fill("192.0.2.10")
    apply(page)
    put(at_work, zone, "www", "A", "192.0.2.2", "192.0.2.99")
    put(at_work, zone, "mail", "A", "192.0.2.25")
    save(page)
    meanwhile = page.locator("#records .meanwhile")
    expect(meanwhile).to_contain_text("Somebody else has changed")
    assert meanwhile.locator("del").all_inner_texts() == ["192.0.2.1"]
    assert meanwhile.locator("ins").all_inner_texts() == ["192.0.2.99"]
    expect(page.locator("tr", has_text=f"mail.{zone}")).to_be_visible()
    assert sets(at_work, zone)["www", "A"] == ["192.0.2.2", "192.0.2.99"]
    save(page)
    expect(page.get_by_text(f"1 record set of {zone} changed")).to_be_visible()
    expect(meanwhile).to_be_hidden()
    assert sets(at_work, zone)["www", "A"] == ["192.0.2.10", "192.0.2.2"]
    assert sets(at_work, zone)["mail", "A"] == ["192.0.2.25"]


@pytest.mark.parametrize("name", ["other", "www"])
def test_somebody_else_edits_in_the_last_moment(visit: Open, at_work: Site, name: str) -> None:
    """An edit between the console's look and its own edit is seen: one of another set is no conflict."""
    zone = make(at_work, f"{name}-late.test")
    page = visit(f"zones/{zone}", log=False)
    open_set(page, f"www.{zone}. A").get_by_label("Record 1", exact=True).fill("192.0.2.10")
    apply(page)
    answers: list[int] = []

    def late(route: Route) -> None:
        if route.request.method == "PATCH" and not answers:
            put(at_work, zone, name, "A", "192.0.2.99")
        answer = route.fetch()
        if route.request.method == "PATCH":
            answers.append(answer.status)
        route.fulfill(response=answer)

    page.route("**/servers/localhost/zones/**", late)
    save(page)
    if name == "www":
        expect(page.locator("#records .meanwhile")).to_contain_text("Somebody else has changed")
        assert (answers, sets(at_work, zone)["www", "A"]) == ([412], ["192.0.2.99"])
    else:
        expect(page.get_by_text(f"1 record set of {zone} changed")).to_be_visible()
        assert (answers, sets(at_work, zone)["other", "A"]) == ([412, 204], ["192.0.2.99"])
        assert sets(at_work, zone)["www", "A"] == ["192.0.2.10", "192.0.2.2"]


def test_a_zone_text_that_is_being_edited(visit: Open, at_work: Site) -> None:
    """Saving records does not let a text that was entered before undo them: that is of an older state, and refused."""
    zone = make(at_work, "both.test")
    page = visit(f"zones/{zone}", log=False)
    page.get_by_label("Zone text").fill(f"{TEXT}mine IN A 192.0.2.7\n")
    new_set(page, "first", "A", "192.0.2.8")
    apply(page)
    save(page)
    expect(page.get_by_text(f"1 record set of {zone} changed")).to_be_visible()
    page.locator("#zone-form").get_by_role("button", name="Save").click()
    expect(page.locator("#zone-form .form-error")).to_contain_text("Somebody else has changed")
    assert ("first", "A") in sets(at_work, zone)


def test_who_may_only_read(visit: Open, at_work: Site) -> None:
    """A viewer sees the table and cannot change a row of it."""
    zone = make(at_work, "viewed.test")
    status, made = at_work.node.curl("POST", "tokens", {"name": "records-looker", "role": "viewer"})
    assert status == 201, made
    page = visit(f"zones/{zone}", token=made["token"])
    expect(page.locator("#records tbody tr")).to_have_count(5)
    expect(page.locator("#records tbody")).to_contain_text("192.0.2.53")
    expect(page.locator("#records button:visible")).to_have_count(0)
    page.get_by_label("Name or record contains").fill("old")
    expect(page.locator("#records tbody tr")).to_have_count(1)
    assert flaws(page) == []


def test_records_that_come_from_elsewhere(visit: Open, at_work: Site) -> None:
    """Those that the site or a primary makes can be read only; of a secondary that has none yet there is no table."""
    curl = at_work.node.curl
    try:
        assert curl("PUT", "zones/made.test", {"catalog": "produce"})[0] == 201
        assert curl("PUT", "zones/empty.test", {"primaries": ["127.0.0.1:9"]})[0] == 201
        within(30, lambda: curl("GET", "zones/made.test")[1]["text"])
        page = visit("zones/made.test")
        expect(page.locator("#records tbody")).to_contain_text("SOA")
        expect(page.locator("#records button:visible")).to_have_count(0)
        turn(page, "zones/empty.test")
        expect(page.locator("h1")).to_have_text("empty.test")
        expect(page.locator("#zone-form")).to_be_visible()
        expect(page.locator("#records")).to_have_count(0)
    finally:
        for name in ("made", "empty"):
            curl("DELETE", f"zones/{name}.test")


@pytest.mark.timeout(180)
def test_ten_thousand_records(visit: Open, at_work: Site) -> None:
    """A large zone is shown by pages, searched as one types, and edited; no more of it is drawn than is shown. For
    each the whole of it is read, which takes a while beside other work."""
    wait = 2 * WAIT_MS
    lines = (f"n{number:05} IN A 192.0.2.{host}\n" for number in range(5000) for host in (1, 2))
    zone = make(at_work, "large.test", HEAD + "".join(lines))
    page = visit(f"zones/{zone}")
    rows, total = page.locator("#records tbody tr"), page.locator("#records .list-foot")
    expect(total).to_contain_text("5,003 record sets, page 1 of 101", timeout=wait)
    assert rows.count() == 50
    page.keyboard.press("n")
    expect(total).to_contain_text("page 2 of 101", timeout=wait)
    expect(page.get_by_role("button", name=f"Edit n00060.{zone}. A", exact=True)).to_be_visible()
    page.get_by_label("Name or record contains").press_sequentially("n0432")
    expect(total).to_contain_text("10 record sets", timeout=wait)
    open_set(page, f"n04321.{zone}. A").get_by_label("Record 1", exact=True).fill("192.0.2.77")
    apply(page)
    save(page, wait)
    expect(page.get_by_text(f"1 record set of {zone} changed")).to_be_visible()
    assert sets(at_work, zone)["n04321", "A"] == ["192.0.2.2", "192.0.2.77"]


@pytest.mark.parametrize("look", LOOKS)
def test_how_it_looks(visit: Open, at_work: Site, keep: Callable[..., None], look: str) -> None:
    """The table with edits, the dialog with faults and the differences fit the window, and axe finds no flaw."""
    zone = make(at_work, f"{look}.test", f'{TEXT}long IN TXT "{"x" * 250}"\n')
    options: dict[str, Any] = LOOKS[look]
    rules = COLOURS if look == "dark" else RULES
    page = visit(f"zones/{zone}", **options)
    new_set(page, "fresh", "AAAA", "2001:db8::1", "bad")
    page.get_by_role("button", name="Apply").click()
    expect(page.locator(".record-row .error").nth(1)).not_to_be_empty()
    keep(page, f"records-dialog-{look}", whole=False)
    found = {"dialog": flaws(page, rules)}
    page.get_by_role("button", name="Remove this record").last.click()
    apply(page)
    page.get_by_role("button", name=f"Remove old.{zone}. MX").click()
    keep(page, f"records-table-{look}")
    found["table"] = flaws(page, rules)
    page.get_by_role("button", name="Review and save").click()
    keep(page, f"records-review-{look}", whole=False)
    found["review"] = flaws(page, rules)
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


def test_by_keyboard(visit: Open, at_work: Site) -> None:
    """From row to row, into a set, to its records and to the saved edit without the pointer, on a phone's width."""
    zone = make(at_work, "keyboard.test")
    page = visit(f"zones/{zone}", viewport=PHONE)
    expect(page.locator("#records tbody tr")).to_have_count(5)
    for _ in range(5):
        page.keyboard.press("j")
    expect(page.get_by_role("button", name=f"Edit www.{zone}. A", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Record 1", exact=True)).to_be_focused()
    page.keyboard.press("Control+A")
    page.keyboard.type("192.0.2.11")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("button", name=f"Edit www.{zone}. A", exact=True)).to_be_focused()
    look = page.get_by_role("button", name="Review and save")
    for _ in range(12):
        page.keyboard.press("Tab")
        if look.evaluate("element => element === document.activeElement"):
            break
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog").get_by_role("button", name="Save")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_text(f"1 record set of {zone} changed")).to_be_visible()
    assert sets(at_work, zone)["www", "A"] == ["192.0.2.11", "192.0.2.2"]
