"""An address can neither be forged nor, once proven, be used by another client."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Address

from dnsvip.demo.record import Check
from dnsvip.demo.site import NAME
from dnsvip.demo.stage import Stage
from dnsvip.demo.topology import FAST, NAME_SERVER

TIMED_OUT = 28
"""curl's exit status when nothing answers."""


def enrolled_client(stage: Stage) -> Iterator[Check]:
    """A client with a key is gold anywhere, and nobody else can use its address."""
    operator, machine = stage.hosts.dispatcher, stage.hosts.plain
    where = ("--config", "node.toml", "--server", f"[{NAME_SERVER}]:53")
    stage.run(operator, "dnsvip", "client", "enrol", "roamer", *where, "--output", "roamer.enrolment")
    agent = ("dnsvip", "client", "exec", "--enrolment", "roamer.enrolment", "--")
    page = stage.page(machine, *agent, "curl", "-s", f"http://{NAME}/")
    yield Check("an enrolled client is gold from anywhere", page.server in FAST, f"client-plain -> {page.server}")
    decode = ("dnsvip", "decode", str(page.asked), "--source", str(page.client), "--config", "node.toml")
    said = stage.attempt(operator, *decode).stdout
    yield Check("an enrolled client proves its address", "accepted as proven" in said, _verdict(said))
    dropped, more = _is_dropped(stage, page.asked, "bad-proof")
    yield Check(
        "a proven address is of no use to others", dropped, f"client-gold gets no answer; bad-proof counted {more} more"
    )


def forged_address(stage: Stage) -> Iterator[Check]:
    """An address with one bit changed reaches no server."""
    issued = stage.dig(stage.hosts.gold, NAME)
    forged = IPv6Address(int(issued) ^ 1)
    said = stage.attempt(stage.hosts.dispatcher, "dnsvip", "decode", str(forged), "--config", "node.toml").stdout
    dropped, more = _is_dropped(stage, forged, "bad-tag")
    yield Check("a forged address is dropped and counted", dropped, f"no answer; bad-tag counted {more} more")
    yield Check("`dnsvip decode` says what is wrong with it", "bad-tag" in said, _verdict(said))


def _is_dropped(stage: Stage, address: IPv6Address, reason: str) -> tuple[bool, int]:
    """Whether client-gold gets no answer from an address while packets are counted as `reason`; how many."""
    before = stage.status()["dispatcher"]["counters"].get(reason, 0)
    curl = ("curl", "-s", "--max-time", "1", "--connect-to", f"{NAME}:80:[{address}]:80", f"http://{NAME}/")
    status = stage.attempt(stage.hosts.gold, *curl).returncode
    more = stage.counted(reason) - before
    return status == TIMED_OUT and more > 0, more


def _verdict(said: str) -> str:
    """The last step of `dnsvip decode`."""
    return said.rpartition("verdict")[2].strip()
