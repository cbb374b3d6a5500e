"""`dnsvip dispatch`: take the packets for the cluster prefixes and forward them, until stopped."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import click
import structlog
import uvloop

from dnsvip.cli.processes.notify import Notifier
from dnsvip.cli.processes.observing import observed_dispatch, observing
from dnsvip.cli.processes.reloading import Live, reload_on_hangup
from dnsvip.cli.processes.sampling import flow_log
from dnsvip.cli.processes.settling import Settling
from dnsvip.cli.processes.turns import share_interpreter
from dnsvip.config import DispatchSettings, load_node
from dnsvip.dispatcher.health.checks import Health, reported, with_health
from dnsvip.dispatcher.observing.control import SOCKET, Control
from dnsvip.dispatcher.userspace.runner import Runner
from dnsvip.log import configure
from dnsvip.model import Snapshot
from dnsvip.store.feed import Feed

Status: TypeAlias = Callable[[], dict[str, Any]]
log = structlog.get_logger()


@click.command()
@click.argument("node_file", metavar="NODE.toml", type=click.Path(exists=False, dir_okay=False, path_type=Path))
@click.option("--detach", is_flag=True, help='With mode = "xdp": take the program off the interface at the end too.')
def dispatch(node_file: Path, detach: bool) -> None:
    """Forward packets for the cluster prefixes to their servers.

    Needs the right to make a TUN device and routes (root, or CAP_NET_ADMIN and CAP_NET_RAW), and a host
    that forwards. Stops on SIGTERM or Ctrl-C and takes everything it made with it; only the kernel's program
    (mode = "xdp") stays and goes on forwarding, so that a restart interrupts nothing. Reads NODE.toml again on SIGHUP.
    """
    node = load_node(node_file)
    configure(node.log)
    share_interpreter()
    uvloop.run(_dispatch(Live(node_file, node), node.dispatch or DispatchSettings(), keep=not detach))


def make_runner(settings: DispatchSettings, snapshot: Snapshot, *, keep: bool = True) -> Runner:
    """The runner for a node's mode; with `keep` the kernel's program stays when it stops."""
    if settings.mode == "xdp":
        from dnsvip.dispatcher.kernel.xdp import XdpRunner  # noqa: PLC0415 - libbpf is needed in this mode only

        return XdpRunner(settings, snapshot, keep=keep)
    return Runner(settings, snapshot)


async def _dispatch(live: Live, settings: DispatchSettings, *, keep: bool) -> None:
    node, stopped = live.node, asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    feed = Feed(node, ["dispatch"])
    await feed.start()
    try:
        runner, health = make_runner(settings, feed.snapshot, keep=keep), Health()
        await runner.start()

        feed.describe(lambda: reported(health.status()))

        flows: Callable[[], Mapping[str, int]] = dict

        def status() -> dict[str, Any]:
            return {**with_health(runner.status(), health), "flow_log": dict(flows())}

        try:
            observed = observed_dispatch(live, feed, status)
            async with observing(node.metrics.dispatch_listen, live, observed, "metrics.dispatch_listen"):
                with flow_log(live, runner) as flows:
                    await _run(live, feed, runner, health, status, stopped)
        finally:
            await health.stop()
            await runner.stop()
    finally:
        await feed.close()


async def _run(live: Live, feed: Feed, runner: Runner, health: Health, status: Status, stopped: asyncio.Event) -> None:
    settling, notifier = Settling(), Notifier(os.environ)

    async def take(snapshot: Snapshot) -> None:
        await runner.update(health.update(snapshot))
        settling.after(snapshot)

    feed.subscribe(take)
    await take(feed.snapshot)
    control = Control(live.node.state_dir / SOCKET, runner, status)
    await control.start()
    said = {name: value for name, value in runner.status().items() if name in ("mode", "prefixes", "device", "mtu")}
    log.info("dispatching", **said)
    serving = f"dispatching {', '.join(said['prefixes'])}"
    reload_on_hangup(live, notifier, serving)
    notifier.ready(serving)
    loops = (feed.run(), runner.run(), health.run(runner.update), notifier.keep_alive(), stopped.wait())
    work = [asyncio.ensure_future(each) for each in loops]
    try:
        done, _ = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        notifier.stopping()
        log.info("stopping", packets=runner.status()["packets"])
    finally:
        for task in work:
            task.cancel()
        await asyncio.wait(work)
        control.stop()
