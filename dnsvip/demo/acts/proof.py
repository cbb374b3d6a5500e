"""What an address cannot be: invented, or used by somebody else than its client."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Address

from dnsvip.demo.record import Check
from dnsvip.demo.site import NAME
from dnsvip.demo.stage import DNSVIP, Stage
from dnsvip.demo.topology import FAST, NAME_SERVER, PLAIN

TIMED_OUT = 28
"""curl's exit status when nothing answers."""


def forged_address(stage: Stage) -> Iterator[Check]:
    """An address with one bit changed reaches no server."""
    issued = stage.dig(stage.hosts.gold, NAME)
    forged = IPv6Address(int(issued) ^ 1)
    before = stage.drops("bad-tag")
    status = stage.attempt(stage.hosts.gold, *_curl_at(forged)).returncode
    yield Check("a forged address is dropped", status == TIMED_OUT, f"curl: nothing answers at {forged}")
    more = stage.drops("bad-tag") - before
    yield Check("the dispatcher counts why", more > 0, f"{more} more packets dropped as bad-tag")


def enrolled_client(stage: Stage) -> Iterator[Check]:
    """A client with a key is gold wherever it is, and nobody else can use its address."""
    operator, machine = stage.hosts.dispatcher, stage.hosts.plain
    where = ("--config", "node.toml", "--server", f"[{NAME_SERVER}]:53")
    stage.run(operator, DNSVIP, "client", "enrol", "roamer", *where, "--output", "roamer.enrolment")
    agent = (DNSVIP, "client", "exec", "--enrolment", "roamer.enrolment", "--")
    page = stage.page(machine, *agent, "curl", "-s", f"http://{NAME}/")
    yield Check("the enrolled client is served by the fast pool", page.server in FAST, page.server)
    yield Check("it connected to an encoded address", page.asked != PLAIN, str(page.asked))
    said = stage.run(operator, DNSVIP, "decode", str(page.asked), "--config", "node.toml", "--source", str(page.client))
    yield Check("the address holds the client's proof", "proven" in said, "mode 1, proven for this source")
    before = stage.drops("bad-proof")
    status = stage.attempt(stage.hosts.gold, *_curl_at(page.asked)).returncode
    more = stage.drops("bad-proof") - before
    yield Check(
        "the same address from another host is dropped",
        status == TIMED_OUT and more > 0,
        f"{more} more packets dropped as bad-proof",
    )


def _curl_at(address: IPv6Address) -> list[str]:
    """curl to one address, giving up after a second."""
    return ["curl", "-s", "--max-time", "1", "--connect-to", f"{NAME}:80:[{address}]:80", f"http://{NAME}/"]
