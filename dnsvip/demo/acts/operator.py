"""What an operator does: apply a site file, start a node."""

from __future__ import annotations

from collections.abc import Iterator

from dnsvip.demo.programs import listens, wait_ready
from dnsvip.demo.record import Check
from dnsvip.demo.site import API, DNS_NAME
from dnsvip.demo.stage import Stage

_CERTIFICATE = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout dns.key -out dns.pem"
    f" -subj /CN={DNS_NAME} -addext subjectAltName=DNS:{DNS_NAME} 2>/dev/null"
)
"""Makes the certificate of DNS over HTTPS."""


def set_up(stage: Stage) -> Iterator[Check]:
    """The operator applies a site file and starts DNS, API and dispatcher."""
    host = stage.hosts.dispatcher
    stage.run(host, "sh", "-c", _CERTIFICATE)
    stage.run(host, "dnsvip", "apply", "site.toml", "--config", "node.toml")
    again = stage.run(host, "dnsvip", "apply", "site.toml", "--config", "node.toml", "--dry-run")
    same = again.startswith("nothing to change")
    yield Check("a site file applies; a second time it changes nothing", same, again.strip())
    _start_node(stage)
    status = stage.run(host, "dnsvip", "status", "--api", API, "--token-file", "token")
    live = [line for line in status.splitlines() if "live" in line.split()]
    all_live = all(any(role in line for line in live) for role in ("dns", "admin", "dispatch"))
    yield Check("DNS, API and dispatcher run", all_live, f"{len(live)} live programs")


def _start_node(stage: Stage) -> None:
    """DNS with API, and a dispatcher, as two programs on one host."""
    host, folder = stage.hosts.dispatcher, stage.folder
    serve = stage.start(host, "dnsvip", "serve", "node.toml", "--token-file", "token", log=folder / "serve.log")
    dispatch = stage.start(host, "dnsvip", "dispatch", "node.toml", log=folder / "dispatch.log")
    wait_ready(serve, folder / "serve.log", lambda: listens(host, "--tcp", 8053) and (folder / "token").exists())
    wait_ready(dispatch, folder / "dispatch.log", (folder / "state" / "dispatch.sock").exists)
    stage.settle()
