"""What an operator does: apply a site file, start a node."""

from __future__ import annotations

from collections.abc import Iterator

from dnsvip.demo.programs import ready
from dnsvip.demo.record import Check
from dnsvip.demo.stage import DNSVIP, Stage


def set_up(stage: Stage) -> Iterator[Check]:
    """The operator applies a site file and starts DNS, API and dispatcher."""
    host = stage.hosts.dispatcher
    stage.run(host, DNSVIP, "apply", "site.toml", "--config", "node.toml")
    again = stage.run(host, DNSVIP, "apply", "site.toml", "--config", "node.toml", "--dry-run")
    same = again.startswith("nothing to change")
    yield Check("the site file applies, and a second time changes nothing", same, again.strip())
    stage.shell(host, "dnsvip tokens create demo --config node.toml > token")
    serve = stage.start(host, DNSVIP, "serve", "node.toml", log=stage.folder / "serve.log")
    dispatch = stage.start(host, DNSVIP, "dispatch", "node.toml", log=stage.folder / "dispatch.log")
    ready(host, serve, stage.folder / "serve.log", tcp=8053, udp=53)
    yield Check("DNS, API and dispatcher run", serve.poll() is None and dispatch.poll() is None, "ready")
