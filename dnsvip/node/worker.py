"""One DNS worker of a node, as `dnsvip serve` starts it where dns.workers is more than 1: no command for people.

    python -m dnsvip.node.worker NODE.toml

It follows the database by a feed of its own, so the node's keys rotate when all workers have them.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvloop

from dnsvip.dns.io.workers import Parent
from dnsvip.errors import DnsvipError
from dnsvip.node.reload import Live, reload_on_hangup
from dnsvip.node.runtime_tuning import share_interpreter
from dnsvip.node.sd_notify import Notifier
from dnsvip.node.serve import dns_of, feed_of
from dnsvip.site.io.files import load_node
from dnsvip.telemetry.log import configure


def main(node_file: str) -> int:
    """Answer until the parent wants no more; the exit status."""
    parent = Parent()
    try:
        node = load_node(Path(node_file))
        configure(node.log)
        share_interpreter()
        uvloop.run(_work(Live(Path(node_file), node), parent))
    except DnsvipError as error:
        parent.tell(failed=str(error)[:500])
        return 1
    return 0


async def _work(live: Live, parent: Parent) -> None:
    async with feed_of(live.node, ["dns"]) as feed, dns_of(live, feed) as server:
        reload_on_hangup(live, Notifier({}), "")
        parent.tell(ready=[[each.name, each.host, each.port] for each in server.endpoints])
        following = asyncio.create_task(feed.run())
        stopped = asyncio.create_task(parent.stopped(server.counters))
        done, _ = await asyncio.wait((following, stopped), return_when=asyncio.FIRST_COMPLETED)
        for task in (following, stopped):
            task.cancel()
        await asyncio.wait((following, stopped))
        for task in done:
            task.result()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
