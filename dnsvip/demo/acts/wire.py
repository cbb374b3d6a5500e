"""What is on the wire: the destination arrives unchanged, answers take the short way."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Address

from dnsvip.demo.record import Check
from dnsvip.demo.site import NAME
from dnsvip.demo.stage import Stage
from dnsvip.demo.topology import PREFIX

PACKETS = f"tcp and net {PREFIX}"


def direct_return(stage: Stage) -> Iterator[Check]:
    """Packets on the wire: the SYN reaches the server as sent, the answer does not pass the dispatcher."""
    hosts = stage.hosts
    vip = stage.dig(hosts.gold, NAME)
    with (
        stage.capture(hosts.servers["fast-1"], "eth0", PACKETS) as server,
        stage.capture(hosts.dispatcher, "eth0", PACKETS) as arriving,
        stage.capture(hosts.dispatcher, "eth1", PACKETS) as leaving,
    ):
        stage.page(hosts.gold, "curl", "-s", "--connect-to", f"{NAME}:80:[{vip}]:80", f"http://{NAME}/")
    syn = [line for line in server.lines if "Flags [S]," in line and f"> {vip}.80:" in line]
    yield Check("the SYN reaches the server with its destination unchanged", bool(syn), str(vip))
    replies = [line for line in server.lines if _sender(line) == vip]
    back = [line for line in (*arriving.lines, *leaving.lines) if _sender(line) == vip]
    yield Check(
        "the server's answers do not pass the dispatcher",
        bool(replies) and bool(arriving.lines) and not back,
        f"{len(replies)} packets left fast-1 for the client, {len(back)} passed the dispatcher",
    )


def _sender(line: str) -> IPv6Address:
    """The source address in a line of tcpdump: `IP6 ADDRESS.PORT > ...`."""
    return IPv6Address(line.split()[1].rpartition(".")[0])
