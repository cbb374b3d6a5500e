"""Our server with any number of client prefixes, for the bench: `python -m tests.bench.flat_server PORT PREFIXES`.

The site is built in memory, since ten million clients do not fit a site file, and served by the same Engine and
DnsServer as in `dnsvip serve`. PREFIXES is 10 * 2 ** n: they divide SPACE evenly, and a client holds up to
PER_CLIENT of them. Addresses are renewed only once an hour, so that the runs differ in classification alone.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address

import uvloop

from dnsvip.dns.engine import Engine
from dnsvip.dns.io.server import DnsServer
from dnsvip.site import Client, Match, Step
from dnsvip.site.node_dns import DnsSettings, Listener
from tests.bench.questions import FIRST_NEW, SPACE
from tests.samples import make_site, snapshot_of

PER_CLIENT = 1024


def make_clients(prefixes: int) -> Iterator[Client]:
    """As many clients as hold all prefixes."""
    size = SPACE // prefixes
    length = 33 - size.bit_length()
    step = PER_CLIENT if prefixes > 10 * PER_CLIENT else 1
    for first in range(0, prefixes, step):
        networks = (f"{IPv4Address(FIRST_NEW + n * size)}/{length}" for n in range(first, first + step))
        yield Client(f"client-{first}", 1 + first // step, "gold", tuple(Match(Step.ECS, net) for net in networks))


async def serve(port: int, prefixes: int) -> None:
    """Answer until killed."""
    site = make_site({"cluster": {"web": {"renew": 3600}}, "client": {"acme": None, "newsreader": None}})
    clients = {client.name: client for client in make_clients(prefixes)}
    engine = Engine(snapshot_of(replace(site, clients=clients)))
    server = DnsServer(DnsSettings(listen=(Listener(f"127.0.0.1:{port}"),)), engine)
    await server.start()
    gc.freeze()
    gc.enable()
    await asyncio.Event().wait()


if __name__ == "__main__":
    gc.disable()  # all of it is long-lived; repeated GC passes over it would dominate
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))
