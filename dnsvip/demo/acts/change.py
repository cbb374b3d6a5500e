"""What an operator changes while clients are connected: a client's tier, the cluster's keys."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Address

from dnsvip.demo.record import Check
from dnsvip.demo.site import NAME
from dnsvip.demo.stage import Stage, until
from dnsvip.demo.topology import FAST, PREFIX, SLOW
from dnsvip.demo.webserver import content

SIZE, SECONDS = 2_000_000, 6
"""Of the download that runs while the keys change; the server takes its time."""


def tier_change(stage: Stage) -> Iterator[Check]:
    """A client's tier changes through the API: its next connection, to the address it has, goes elsewhere."""
    vip = stage.dig(stage.hosts.gold, NAME)
    first = _server_at(stage, vip)
    _set_tier(stage, "standard")
    second = _server_at(stage, vip)
    moved = first in FAST and second in SLOW
    yield Check("a tier change moves the next connection", moved, f"the same address: {first}, now {second}")
    _set_tier(stage, "gold")
    third = _server_at(stage, vip)
    yield Check("changed back, it moves back", third in FAST, f"now {third}")


def attribute_rule(stage: Stage) -> Iterator[Check]:
    """A client's attribute is sealed into its address, and a rule of the cluster picks the pool by it."""
    stage.api("PATCH", "clients/acme", '{"attributes": {"lang": "fr"}}')
    stage.settle()
    before = stage.ask(stage.hosts.gold, NAME)
    until(lambda: stage.ask(stage.hosts.gold, NAME) not in (before, None), "another address than the cached one")
    vip = stage.dig(stage.hosts.gold, NAME)
    said = stage.attempt(stage.hosts.dispatcher, "dnsvip", "decode", str(vip), "--config", "node.toml").stdout
    route = next((line.partition("route")[2].strip() for line in said.splitlines() if " route " in line), "")
    server = _server_at(stage, vip)
    yield Check(
        "a rule by an attribute picks the pool", server in SLOW and route.startswith("rule 1"), f"{route}: {server}"
    )
    stage.api("PATCH", "clients/acme", '{"attributes": {"lang": null}}')
    stage.settle()
    until(lambda: stage.ask(stage.hosts.gold, NAME) not in (vip, None), "an address without the attribute")


def own_server(stage: Stage) -> Iterator[Check]:
    """A client gets a server of its own through the API, and keeps its address."""
    vip, (own, *_) = stage.dig(stage.hosts.gold, NAME), SLOW
    stage.api("PATCH", "clients/acme", f'{{"servers": ["{own}"]}}')
    stage.settle()
    servers = {_server_at(stage, vip) for _ in range(3)}
    yield Check(
        "a client with a server of its own gets it", servers == {own}, f"the same address: {', '.join(servers)}"
    )
    stage.api("PATCH", "clients/acme", '{"servers": null}')
    stage.settle()


def key_rotation(stage: Stage) -> Iterator[Check]:
    """The cluster's keys rotate during a download: nothing breaks."""
    gold, file = stage.hosts.gold, stage.folder / "download"
    old = stage.dig(gold, NAME)
    url = f"http://{NAME}/download?bytes={SIZE}&seconds={SECONDS}"
    download = stage.start(gold, *_curl_at(old), "-o", file.name, url, log=stage.folder / "download.log")
    until(lambda: file.exists() and file.stat().st_size > 0, "the download", process=download)
    stage.api("POST", "keys/web/rotate")
    until(lambda: _epoch(stage.ask(gold, NAME) or old) != _epoch(old), "an address of the new epoch")
    new = stage.dig(gold, NAME)
    server, running = _server_at(stage, new), download.poll() is None
    epochs = f"epoch {_epoch(old)}, now {_epoch(new)}, {server}"
    yield Check("a key rotation changes the addresses", _epoch(new) != _epoch(old) and server in FAST, epochs)
    server = _server_at(stage, old)
    yield Check("addresses of the old epoch still work", server in FAST, f"{old}: {server}")
    whole = download.wait(SECONDS + 30) == 0 and file.read_bytes() == content(SIZE)
    seen = f"{'still ran' if running else 'was over'} at the change; {file.stat().st_size} bytes"
    yield Check(
        "a download across the rotation is whole", running and whole, f"{seen}{', all as sent' if whole else ''}"
    )


def _set_tier(stage: Stage, tier: str) -> None:
    stage.api("PATCH", "clients/acme", f'{{"tier": "{tier}"}}')
    stage.settle()


def _server_at(stage: Stage, address: IPv6Address) -> str:
    """The server that a new connection of client-gold to this very address reaches."""
    return stage.page(stage.hosts.gold, *_curl_at(address), f"http://{NAME}/").server


def _curl_at(address: IPv6Address) -> tuple[str, ...]:
    return ("curl", "-s", "--connect-to", f"{NAME}:80:[{address}]:80")


def _epoch(address: IPv6Address) -> int:
    """The epoch slot: two bits behind prefix and mode bit."""
    return int(address) >> (128 - PREFIX.prefixlen - 3) & 3
