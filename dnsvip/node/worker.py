"""One DNS worker process; `dnsvip serve` starts as many as [dns] workers says, people never do.

    python -m dnsvip.node.worker NODE.toml

It follows the database on its own and reports like a node, so that keys rotate only when all workers have them.
"""

from __future__ import annotations

import sys
from dataclasses import astuple
from pathlib import Path

import uvloop

from dnsvip.dns.io.workers import Parent
from dnsvip.errors import DnsvipError
from dnsvip.node.dns_service import answering
from dnsvip.node.large_zones import Comparing
from dnsvip.node.lifecycle import following, run_until_one_ends
from dnsvip.node.reload import LiveConfig, reload_on_hangup
from dnsvip.node.runtime_tuning import shorten_gil_interval
from dnsvip.node.sd_notify import Notifier
from dnsvip.site.io.files import load_node
from dnsvip.telemetry.log import configure


def main(node_file: str) -> int:
    """Answer until the parent closes the pipe; the exit status."""
    parent = Parent()
    try:
        node = load_node(Path(node_file))
        configure(node.log)
        shorten_gil_interval()
        uvloop.run(_work(LiveConfig(Path(node_file), node), parent))
    except DnsvipError as error:
        parent.report(failed=str(error)[:500])
        return 1
    return 0


async def _work(live: LiveConfig, parent: Parent) -> None:
    async with (
        Comparing() as comparing,
        following(live.node, ["dns"], comparing.change) as follower,
        answering(live, follower, totals=False) as server,
    ):
        reload_on_hangup(live, Notifier({}), "")
        parent.report(ready=[list(astuple(endpoint)) for endpoint in server.endpoints])
        await run_until_one_ends([follower.run(), parent.stopped(server.counters)])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
