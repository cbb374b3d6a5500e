"""On the wire: the destination arrives unchanged, answers bypass the dispatcher."""

from __future__ import annotations

from collections.abc import Iterator

from dnsvip.demo.record import Check
from dnsvip.demo.site import NAME
from dnsvip.demo.stage import Stage
from dnsvip.demo.topology import PREFIX


def direct_return(stage: Stage) -> Iterator[Check]:
    """Packets on the wire: the SYN reaches the server as sent, the answer does not pass the dispatcher."""
    hosts = stage.hosts
    vip = stage.dig(hosts.gold, NAME)
    curl = ("curl", "-s", "--connect-to", f"{NAME}:80:[{vip}]:80", f"http://{NAME}/")
    with (
        stage.capture(hosts.servers["fast-1"], "eth0", PREFIX) as server,
        # On the router's end of the cable: what the kernel's program takes, nobody sees on the dispatcher itself.
        stage.capture(hosts.router, hosts.dispatcher.name, PREFIX) as dispatcher,
    ):
        client = stage.page(hosts.gold, *curl).client
    syn = [line for line in server.sent_by(client) if line.endswith(f"> {vip}.80: Flags [S]")]
    yield Check("the SYN reaches the server with its destination unchanged", bool(syn), str(vip))
    there, back, left = dispatcher.sent_by(client), dispatcher.sent_by(vip), server.sent_by(vip)
    yield Check(
        "the server's answers do not pass the dispatcher",
        bool(there) and bool(left) and not back,
        f"fast-1 sent {len(left)} packets, {len(back)} of them passed the dispatcher",
    )
