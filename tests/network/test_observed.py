"""Dispatcher and DNS server on real packets, scraped: every metric that dashboard and alerts use exists."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dnsvip.demo.netns import World
from tests.network.dispatching import PLAIN, Ground, wait_until
from tests.network.hosted import start_on

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
OBSERVED = """
[[dns.listen]]
address = "[fd00:10::2]:53"
[admin]
listen = "127.0.0.1:8053"
[metrics]
listen = "127.0.0.1:9153"
dispatch_listen = "127.0.0.1:9154"
[log.flows]
one_in = 1
file = "flows.log"
"""
COMMON = {"up", "ALERTS"}
"""Metrics that Prometheus itself adds."""

pytestmark = pytest.mark.network


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """The dispatcher's topology, whose node is scraped and also serves DNS."""
    if reason := World.available(tun=True):
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("observed")
    with World() as world:
        made = Ground(world, folder)
        node = folder / "node.toml"
        node.write_text(node.read_text() + OBSERVED)
        made.process.send_signal(signal.SIGTERM)
        made.process.wait(20)
        made.process = made.dispatch()
        start_on(made.dispatcher, "serve", node, "--token-file", folder / "token", log=folder / "serve.log")
        wait_until(lambda: get(made, 9153, "/readyz").startswith('{"ready": true'), 40)
        yield made


def get(ground: Ground, port: int, path: str) -> str:
    return ground.dispatcher.run("curl", "-s", "-m", "10", f"http://127.0.0.1:{port}{path}", check=False).stdout


def names(text: str) -> set[str]:
    return set(re.findall(r"^([a-zA-Z_:][\w:]*)(?:\{| )", text, re.MULTILINE)) - {"#"}


def used(expression: str) -> set[str]:
    """The metrics in a PromQL expression."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|\b(?:by|on)\s*\([^)]*\)', " ", expression)
    words = set(re.findall(r"\b[a-z_:][\w:]*\b(?!\s*\()", bare))
    return words - {"and", "or", "unless", "bool", "by", "on", "for", "sum", "max", "min", "rate", "le"}


def expressions() -> list[str]:
    """All expressions of dashboard and rules."""
    board = json.loads((DEPLOY / "grafana" / "dnsvip.json").read_text())
    found = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    rules = (DEPLOY / "prometheus" / "dnsvip.rules.yml").read_text()
    return found + re.findall(r"expr: (?:>-\n)?((?:.*?))(?=\n\s+(?:for|labels):)", rules, re.DOTALL)


def test_packets_are_counted(ground: Ground) -> None:
    """Connections and forged packets increase their counters; promtool reports nothing."""
    assert ground.who(PLAIN)
    assert ground.who(ground.address("fast", 5))
    ground.client.run("curl", "-s", "-m", "1", "http://[2001:db8:a:1::bad]/", check=False)
    wait_until(lambda: value(ground, 9154, 'dnsvip_dispatch_packets_total{action="forward",reason="issued"}') >= 1)
    assert value(ground, 9154, 'dnsvip_dispatch_packets_total{action="forward",reason="plain"}') >= 1
    assert value(ground, 9154, 'dnsvip_dispatch_new_flows_total{tier="fast"}') >= 2
    assert sum(value(ground, 9154, f'dnsvip_dispatch_flows{{state="{state}"}}') for state in ("established", "new")) > 0
    for port in (9153, 9154):
        text = get(ground, port, "/metrics")
        done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")


def value(ground: Ground, port: int, series: str) -> float:
    lines = (line.rpartition(" ") for line in get(ground, port, "/metrics").splitlines())
    return next((float(number) for name, _, number in lines if name == series), 0.0)


def test_every_metric_in_use_exists(ground: Ground) -> None:
    """Dashboard and alerts use only metrics present in a live scrape of both processes."""
    ask = ("dig", "@fd00:10::2", "+time=5", "+tries=1", "CH", "TXT", "id.server")
    ground.dispatcher.run(*ask)
    ground.dispatcher.run(*ask, "+tcp")
    token = (ground.folder / "token").read_text().strip()
    ground.dispatcher.run("curl", "-s", "-H", f"Authorization: Bearer {token}", "http://127.0.0.1:8053/api/v1/status")
    scraped = names(get(ground, 9153, "/metrics")) | names(get(ground, 9154, "/metrics"))
    scrapes = get(ground, 9153, "/metrics") + get(ground, 9154, "/metrics")
    families = {line.split()[2] for line in scrapes.splitlines() if line.startswith("# TYPE")}
    found = expressions()
    assert len(found) > 40
    wanted = {name for each in found for name in used(each)} - COMMON
    assert {name for name in wanted if name not in scraped | families} == set()


def test_every_alert_is_tested() -> None:
    """promtool accepts rules, their tests and the configuration; every alert has a test."""
    folder = DEPLOY / "prometheus"
    for argv in (["check", "rules", "dnsvip.rules.yml"], ["test", "rules", "dnsvip.test.yml"],
                 ["check", "config", "prometheus.yml"]):  # fmt: skip
        done = subprocess.run(["promtool", *argv], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    alerts = set(re.findall(r"- alert: (\w+)", (folder / "dnsvip.rules.yml").read_text()))
    assert alerts == set(re.findall(r"alertname: (\w+)", (folder / "dnsvip.test.yml").read_text()))


def test_the_dashboard_is_sound() -> None:
    """Panels have unique numbers, a position, a title and a query; no label is a client or an address."""
    board = json.loads((DEPLOY / "grafana" / "dnsvip.json").read_text())
    panels: list[dict[str, Any]] = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["title"] and (panel["type"] == "row" or panel["targets"]) for panel in panels)
    taken = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(taken)) == len(taken)


def test_flows_are_logged(ground: Ground) -> None:
    """Each new flow and each rejected packet is logged with tier and server, without client or VIP."""
    before = len(lines(ground))
    assert ground.who(ground.address("fast", 6))
    forged = ground.address("fast", 7)[:-2] + "ff"
    ground.client.run("curl", "-s", "-m", "1", f"http://[{forged}]/", check=False)
    wait_until(lambda: len(lines(ground)) >= before + 2)
    found = lines(ground)[before:]
    opened = next(line for line in found if line["reason"] == "issued")
    assert (opened["tier"], opened["pool"], opened["protocol"], opened["port"]) == ("fast", "fast", "tcp", 80)
    assert opened["source"] == "2001:db8:77::/48"
    assert "vip" not in opened
    assert "client" not in opened
    assert not [line for line in found if line["reason"] == "known"]
    wait_until(lambda: value(ground, 9154, 'dnsvip_dispatch_flow_log_lines_total{result="written"}') >= 2)


def lines(ground: Ground) -> list[dict[str, Any]]:
    file = ground.folder / "flows.log"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_reload_of_a_dispatcher(ground: Ground) -> None:
    """SIGHUP applies a dispatcher's log level without interrupting forwarding."""
    node = ground.folder / "node.toml"
    text = node.read_text()
    node.write_text(text + '\n[log]\nlevel = "debug"\n')
    ground.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "node file reloaded" in ground.log)
    assert "log.level" in ground.log
    assert ground.who(PLAIN)
    node.write_text(text)
