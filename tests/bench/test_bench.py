"""The bench's queries and how it judges its figures; `make bench` does the measuring."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import IPv4Address, ip_network
from pathlib import Path
from random import Random

import pytest
from dns.edns import ECSOption
from dns.message import from_wire
from dns.rdatatype import AAAA

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.engine import decide
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.verify.networks import SourceNetworks
from dnsvip.xdp.build import compiler
from dnsvip.xdp.objects import object_file
from tests.bench import bench_dispatch, bench_dns, bench_encrypted, bench_kernel, bench_quality, signed
from tests.bench.asking import Turn, cost_of
from tests.bench.bench_dispatch import Report as DispatchReport
from tests.bench.bench_dispatch import moved
from tests.bench.bench_dns import WORKLOADS
from tests.bench.bench_networks import STRANGER, site_with
from tests.bench.dns_kernel import BY_GDNSD, BY_KNOT, MANY, ONE, QUESTIONS, Row
from tests.bench.dns_kernel import OURS as OURS_IN_KERNEL
from tests.bench.dns_new_prefixes import GEOIP_SOCKETS, SPACES
from tests.bench.flat_server import PER_CLIENT, make_clients
from tests.bench.goals import GOALS, judge, summary
from tests.bench.load import Load
from tests.bench.outcome import LAST_RESULT, README, Result, conclude, write_between, write_section
from tests.bench.pairs import Pair, without_policing
from tests.bench.program import (
    BALANCED,
    ENCAP,
    ESTABLISHED,
    Bench,
    Figure,
    Frames,
    counting,
    known_segments,
    vips_of,
)
from tests.bench.program import rows as program_rows
from tests.bench.questions import FIRST_NEW, KNOWN, SPACE, anywhere, known, missing, new, plain
from tests.bench.report import Report
from tests.bench.said import BOTH, IN_PYTHON, NOTHING, OTHERS, speeches
from tests.bench.said import ESTABLISHED as ESTABLISHED_OF_SUCH
from tests.bench.servers import OURS, PEERS
from tests.bench.ways import Compared
from tests.dispatcher.build import NOW_NS, snapshot
from tests.dispatcher.io.xdp.kernel import loaded


def ecs_of(wire: bytes) -> ECSOption:
    (option,) = from_wire(wire).options
    assert isinstance(option, ECSOption)
    return option


def test_plain() -> None:
    """The plain query asks for the service's AAAA without EDNS."""
    message = from_wire(plain())
    (question,) = message.question
    assert (question.name.to_text(), question.rdtype, message.edns) == ("www.example.test.", AAAA, -1)


def test_with_do() -> None:
    """Queries for signed answers have DO, those of a flood are for names that all differ and are below the zone."""
    messages = [from_wire(wire) for wire in (plain(do=True), *new(2, do=True), *missing(50, Random(1)))]
    assert all(message.ednsflags == 0x8000 for message in messages)
    names = {message.question[0].name.to_text() for message in messages}
    assert len(names) == 51
    assert all(name.endswith(".example.test.") for name in names)


def test_known() -> None:
    """Queries with known prefixes use every prefix before one repeats."""
    asked = [ecs_of(wire) for wire in known(KNOWN, Random(1))]
    assert {subnet.srclen for subnet in asked} == {24}
    assert len({subnet.address for subnet in asked}) == KNOWN


def test_new() -> None:
    """New prefixes are neither repeated nor known."""
    asked = {ecs_of(wire).address for wire in (*new(100), *new(100))}
    assert len(asked) == 200
    assert not asked & {ecs_of(wire).address for wire in known(KNOWN, Random(1))}


@pytest.mark.parametrize("number", [10, 10_240, 20_480])
def test_space(number: int) -> None:
    """Any number of client prefixes divides the same space without gap or overlap."""
    networks = [ip_network(match.value) for client in make_clients(number) for match in client.match]
    assert len(networks) == number
    at = FIRST_NEW
    for network in networks:
        assert int(network.network_address) == at
        at += network.num_addresses
    assert at == FIRST_NEW + SPACE
    assert all(len(client.match) <= PER_CLIENT for client in make_clients(number))


def test_anywhere() -> None:
    """Queries from anywhere stay in that space."""
    for wire in anywhere(100, Random(1)):
        assert FIRST_NEW <= int(IPv4Address(ecs_of(wire).address)) < FIRST_NEW + SPACE


def test_networks() -> None:
    """The bench of networks asks for sources that clients have, and for strangers."""
    networks = SourceNetworks(site_with(20_480))
    assert len(networks) == 20_480
    assert all(networks.client(FIRST_NEW + number, 4) for number in range(0, SPACE, SPACE // 1000))
    assert not any(networks.client(STRANGER + number, 4) for number in range(0, SPACE, SPACE // 1000))


def test_judge() -> None:
    """A figure at its limit meets the goal; one above it or unmeasured misses it, and the summary says so."""
    goals = [goal for goal in GOALS if goal.part == "codec"]
    met, missed, unmeasured = judge("codec", {goals[0].figure: goals[0].most, goals[1].figure: goals[1].most + 1})
    assert (met.met, missed.met, unmeasured.met) == (True, False, False)
    bad, _, good = summary([met, missed, unmeasured]).partition(" | met: ")
    assert goals[0].text in good
    assert f"{goals[1].text} 16 (at most 15 us)" in bad
    assert "not measured" in bad


def test_report() -> None:
    """Every goal of the DNS part has its figure in a report, ratios are per round, and the report is JSON."""
    loads = [{peer.name: Load(10.0, 1.0) for peer in PEERS} | {OURS.name: Load(us, 1.0)} for us in (5.0, 9.0, 10.0)]
    look_ups = [{"query_us": us, "bytes": 99.0} for us in (10.0, 12.0)]
    change = {"load_seconds": 1.0, "effect_seconds": 0.1, "pause_ms": 1.0}
    flat = {10: [Load(1.0, 1.0)], 20: [Load(2.0, 1.0)]}
    costs = {"unsigned": 5.0, "compact": 40.0, "nsec": 6.0, "pdns-signed": 80.0}
    rows = [{name: Load(us * by, 1.0) for name, us in costs.items()} for by in (1, 3, 2)]
    found = {"look_ups": look_ups, "change": change}
    report = Report("", 3, dict.fromkeys(WORKLOADS, loads), {}, flat, found, dict.fromkeys(signed.KINDS, rows))
    verdicts = judge("dns", report.figures)
    assert all(verdict.figure is not None for verdict in verdicts)
    assert report.figures["plain / knot"] == 0.9
    assert report.figures["flatness"] == 2.0
    assert report.figures["signed flood, nsec / unsigned"] == 1.2
    assert [row[1:] for row in signed.rows_of(rows)][1] == ("80.00", "8.00", "0.50")
    assert json.dumps(report.as_json())


def test_conclusion(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A result is printed, written and judged; only a complete one is recorded, and a quick one misses no goal."""
    readme, page = tmp_path / "README.md", tmp_path / "codec.md"
    readme.write_text("# Bench\n\n<!-- codec -->\nold\n<!-- end of codec -->\n\nstays\n")
    page.write_text("# Codec\n\n## Last result\n\nbefore\n\n## Other\n\nstays\n")
    monkeypatch.setattr("tests.bench.outcome.README", readme)
    goals = [goal for goal in GOALS if goal.part == "codec"]
    good = Result("codec", "text", {goal.figure: goal.most for goal in goals}, {"machine": "m"}, page.name, "a day")
    bad = replace(good, figures={})
    assert [conclude(good), conclude(bad), conclude(bad, quick=True, record=True)] == [0, 1, 0]
    assert "before" in page.read_text()
    path = tmp_path / "build" / "figures.json"
    assert conclude(good, path, record=True) == 0
    assert "\ntext\n\ngoals missed: none" in capsys.readouterr().out.replace(f"\nJSON: {path}", "")
    assert "before" not in page.read_text()
    assert page.read_text().endswith("\n\n## Other\n\nstays\n")
    assert readme.read_text() == (
        "# Bench\n\n<!-- codec -->\na day\n\n| what | measured | at most | |\n| --- | ---: | ---: | --- |\n"
        "| encode | 15 | 15 us | met |\n| decode | 15 | 15 us | met |\n"
        "| encode in a batch of 256 | 4 | 4 us | met |\n<!-- end of codec -->\n\nstays\n"
    )
    written = json.loads(path.read_text())
    assert written.keys() == {"machine", "figures", "goals"}
    assert [goal["met"] for goal in written["goals"]] == [True] * len(goals)


PAGES = {
    "dns": bench_dns.PAGE,
    "dispatch": bench_dispatch.PAGE,
    "encrypted": bench_encrypted.PAGE,
    "kernel": bench_kernel.PAGE,
    "quality": bench_quality.PAGE,
}
"""The page of each part that can be recorded."""


@pytest.mark.parametrize("part", PAGES)
def test_last_result(part: str, tmp_path: Path) -> None:
    """A recorded result replaces the previous one and changes nothing else on the page of its part."""
    before = README.with_name(PAGES[part]).read_text()
    assert before.count(f"\n{LAST_RESULT}\n") == 1
    head, _, rest = before.partition(LAST_RESULT)
    page = tmp_path / PAGES[part]
    page.write_text(before)
    for text in ("first", "second"):
        write_section(page, LAST_RESULT, text)
        following = "".join(rest.partition("\n## ")[1:])
        assert page.read_text() == f"{head}{LAST_RESULT}\n\n{text}\n{following}"


@pytest.mark.parametrize("part", [*PAGES, "sizing"])
def test_goals_on_the_first_page(part: str, tmp_path: Path) -> None:
    """What is recorded of a part's goals replaces what README.md had between the part's marks, and nothing else."""
    before = README.read_text()
    page = tmp_path / "README.md"
    page.write_text(before)
    for text in ("first", "second"):
        write_between(page, part, text)
    head, _, rest = before.partition(f"<!-- {part} -->")
    tail = rest.partition(f"<!-- end of {part} -->")[2]
    assert page.read_text() == f"{head}<!-- {part} -->\nsecond\n<!-- end of {part} -->{tail}"


def test_no_place_for_goals(tmp_path: Path) -> None:
    """A page without the marks of a part stays as it is, and the bench says so."""
    page = tmp_path / "README.md"
    page.write_text("# Bench\n")
    with pytest.raises(ValueError, match="no place for dns"):
        write_between(page, "dns", "text")
    assert page.read_text() == "# Bench\n"


def test_unknown_part() -> None:
    """An unknown part has another exit code than a missed goal."""
    argv = [sys.executable, "-m", "tests.bench", "dsn"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, "known: codec, dispatch, dns" in done.stderr) == (2, True)


def test_program_without_policing() -> None:
    """What policing is compared with is another program, compiled from the same source."""
    if compiler() is None:
        pytest.skip("no clang")
    without = without_policing()
    assert without[:4] == object_file("dispatch")[:4]
    assert without != object_file("dispatch")


def test_what_clients_say_has_its_figures() -> None:
    """Every goal about what clients say has a figure; the ratio is that of the best turns."""
    pairs = {name: Pair(name, 250, 200) for name in (ESTABLISHED_OF_SUCH, BOTH, IN_PYTHON + BOTH)}
    figures = DispatchReport("", [], pairs, {}, 0, {"": 0}, Compared({}, {}, [1.0], {})).figures
    assert [figures[name] for name in pairs] == [1.25] * 3
    assert pairs.keys() <= {goal.figure for goal in GOALS if goal.part == "dispatch"}


def test_labels_of_the_bench_are_heard() -> None:
    """The clients of the bench say what it measures: each speech is proven, and each label but the host's is heard."""
    for name, speech in speeches().items():
        flows = Flows(10)
        verdict = decide(speech.packets(1, 2000)[0], DispatchTables(speech.site), flows, NOW_NS)
        assert verdict.address
        assert verdict.reason == "proven"
        assert flows.labels_ignored == (name == OTHERS)
        told = {key for key in ("content", "quality") if verdict.address.values.get(key)}
        assert told == {NOTHING: set(), BOTH: {"content", "quality"}}.get(name, {"content"})


def test_hot_packets_are_new_each_time(kernel: None) -> None:
    """A hot run gives the program the same packet each time, whatever it did to the one before: more often than it has
    hops, and than there is room for outer headers."""
    vips = vips_of(4, tier="tunnel")
    with loaded(flows=1024) as program, counting(), ExitStack() as stack:
        program.writer.apply(DispatchTables(snapshot()))
        bench = Bench(stack, program)
        for _ in range(2):
            bench.dispatcher.cold(Frames(known_segments(vips)))
        before = program.writer.counters.by_action()["known"]["forward"]
        assert bench.again.hot(program.program, Frames(known_segments(vips)), 100) > 0
        assert program.writer.counters.by_action()["known"]["forward"] - before == 400
        beside = program.writer.counters.auxiliary()
        assert (beside["not-sent"], beside["to-user-space"]) == (0, 0)


def test_goals_of_the_program_have_figures() -> None:
    """Every goal in nanoseconds is one of a row that is measured, and the ratios to the balancer are net of E."""
    figures = [Figure(name, 166.0, 90.0, 66.0, 30.0) for name in (BALANCED, ESTABLISHED)]
    figures.append(Figure(ENCAP, 256.0, 90.0, 66.0, 30.0))
    report = DispatchReport("", figures, {}, {}, 0, {"": 0}, Compared({}, {}, [1.0], {}))
    assert report.figures["established / balancer"] == 1.0
    assert report.figures["established, encap / balancer"] == 1.9
    assert [row[-2:] for row in program_rows(figures)] == [("1.00", "60"), ("1.00", "60"), ("1.90", "60")]


def test_goals_of_answers_in_the_kernel_have_figures() -> None:
    """Every goal of the kernel part has its figure in a report: of several questions that of the worst."""
    kernel = bench_kernel.Report(
        "",
        {"E": 10.0, "plain": 50.0, "ECS, made before": 80.0, "ECS, new in this slot": 400.0},
        {size: {"E": 10.0, "of a client": 500.0} for size in bench_kernel.SIZES},
        [
            Row(server, kind, who, cost * (2 if kind == "per client" and server == OURS_IN_KERNEL else 1), 1, 1, 0.1, 1)
            for server, cost in {OURS_IN_KERNEL: 1.0, BY_GDNSD: 10.0, BY_KNOT: 4.0}.items()
            for kind in QUESTIONS
            for who in (ONE, MANY)
        ],
        [
            Row(server, kind, "", cost, 1, 1, 0.1, 1)
            for server, cost in ((OURS_IN_KERNEL, 1), (GEOIP_SOCKETS, 4))
            for kind in SPACES
        ],
    )
    figures = kernel.figures
    assert {goal.figure for goal in GOALS if goal.part == "kernel"} <= figures.keys()
    assert (figures["plain"], figures["new, 100000"]) == (5.0, 50.0)
    assert (figures["gdnsd, one"], figures["knot, many"], figures["new / geoip"]) == (0.2, 0.5, 0.25)


def test_few_flows_move() -> None:
    """A change of one server moves few of the other servers' flows."""
    assert max(moved().values()) < 5


def test_what_an_answer_costs_a_machine() -> None:
    """Sending and the cable are nobody's, at the rate that there was; what was not answered costs, too."""
    bare = Turn(1000, 1000, 0.001, 0.0, 0.002)
    cost = cost_of(Turn(2000, 1000, 0.005, 0.001, 0.009), bare)
    assert tuple(cost) == pytest.approx((4.0, 1.0, 5.0, 0.5))
    assert tuple(cost_of(bare, bare)) == pytest.approx((0.0, 0.0, 0.0, 1.0))
