"""What an operator changes while clients are connected: a client's tier, the cluster's keys."""

from __future__ import annotations

import time
from collections.abc import Iterator
from ipaddress import IPv6Address

from dnsvip.demo.record import Check
from dnsvip.demo.site import NAME
from dnsvip.demo.stage import Stage, until
from dnsvip.demo.topology import FAST, PREFIX, SLOW
from dnsvip.demo.webserver import content

PROPAGATION = 0.5
"""Seconds within which a change reaches every node."""

SIZE, SECONDS = 2_000_000, 6
"""Of the download that runs while the keys change; the server takes its time."""


def tier_change(stage: Stage) -> Iterator[Check]:
    """A client's tier changes through the API: its next connection, to the address it has, goes elsewhere."""
    vip = stage.dig(stage.hosts.gold, NAME)
    first = _page_at(stage, vip)
    _set_tier(stage, "standard")
    second = _page_at(stage, vip)
    yield Check(
        "a tier change moves the next connection",
        (first in FAST, second in SLOW) == (True, True),
        f"{first} -> {second}",
    )
    _set_tier(stage, "gold")
    third = _page_at(stage, vip)
    yield Check("and back", third in FAST, f"{second} -> {third}")


def key_rotation(stage: Stage) -> Iterator[Check]:
    """The cluster's keys rotate during a download: nothing breaks."""
    gold, file = stage.hosts.gold, stage.folder / "download"
    old = stage.dig(gold, NAME)
    url = f"http://{NAME}/download?bytes={SIZE}&seconds={SECONDS}"
    download = stage.start(gold, *_curl_at(old), "--output", file, url, log=stage.folder / "download.log")
    until(lambda: file.exists() and file.stat().st_size > 0, "the download", process=download)
    stage.api("POST", "keys/web/rotate")
    until(lambda: _epoch(stage.ask(gold, NAME) or old) != _epoch(old), "an address of the new epoch", seconds=SECONDS)
    new = stage.dig(gold, NAME)
    running = download.poll() is None
    yield Check("DNS encodes with the new key", _epoch(new) != _epoch(old), f"epoch {_epoch(old)} -> {_epoch(new)}")
    server = _page_at(stage, new)
    yield Check("new addresses are accepted", server in FAST, f"{new} -> {server}")
    server = _page_at(stage, old)
    yield Check("addresses of the old epoch still are", server in FAST, f"{old} -> {server}")
    status = download.wait(SECONDS + 10)
    whole = status == 0 and file.read_bytes() == content(SIZE)
    yield Check(
        "the download across the rotation is whole", running and whole, f"{file.stat().st_size} bytes, all right"
    )


def _set_tier(stage: Stage, tier: str) -> None:
    stage.api("PATCH", "clients/acme", f'{{"tier": "{tier}"}}')
    time.sleep(PROPAGATION)


def _page_at(stage: Stage, address: IPv6Address) -> str:
    """The server that a new connection to this very address reaches."""
    return stage.page(stage.hosts.gold, *_curl_at(address), f"http://{NAME}/").server


def _curl_at(address: IPv6Address) -> list[str]:
    return ["curl", "-s", "--connect-to", f"{NAME}:80:[{address}]:80"]


def _epoch(address: IPv6Address) -> int:
    """The epoch slot: two bits behind prefix and mode bit."""
    return int(address) >> (128 - PREFIX.prefixlen - 3) & 3
