"""`dnsvip dispatch`: take the packets for the cluster prefixes and forward them, until stopped."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import structlog
import uvloop

from dnsvip.dispatcher.io.control import SOCKET, Control
from dnsvip.dispatcher.io.data_plane import DataPlane
from dnsvip.dispatcher.io.health.checks import Health, reported, with_health
from dnsvip.dispatcher.io.user.runner import Runner
from dnsvip.node.health_endpoints import observed_dispatch, observing
from dnsvip.node.reload import Live, reload_on_hangup
from dnsvip.node.runtime_tuning import Settling, share_interpreter
from dnsvip.node.sampled_logs import flow_log
from dnsvip.node.sd_notify import Notifier
from dnsvip.site import Snapshot
from dnsvip.site.io.files import load_node
from dnsvip.site.node_file import DispatchSettings
from dnsvip.store.follower import SnapshotFollower
from dnsvip.telemetry.log import configure

Status: TypeAlias = Callable[[], dict[str, Any]]
log = structlog.get_logger()


def dispatch(node_file: Path, *, detach: bool) -> None:
    """Forward packets for the cluster prefixes to their servers until SIGTERM.

    With `detach` the kernel's program leaves the interface at the end, too; else it stays and goes on forwarding.
    """
    node = load_node(node_file)
    configure(node.log)
    share_interpreter()
    uvloop.run(_dispatch(Live(node_file, node), node.dispatch or DispatchSettings(), keep=not detach))


def make_runner(settings: DispatchSettings, snapshot: Snapshot, *, keep: bool = True) -> DataPlane:
    """The runner for a node's mode; with `keep` the kernel's program stays when it stops."""
    if settings.mode == "xdp":
        from dnsvip.dispatcher.io.xdp.runner import XdpRunner  # noqa: PLC0415 - libbpf is needed in this mode only

        return XdpRunner(settings, snapshot, keep=keep)
    return Runner(settings, snapshot)


async def _dispatch(live: Live, settings: DispatchSettings, *, keep: bool) -> None:
    node, stopped = live.node, asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    feed = SnapshotFollower(node, ["dispatch"])
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


async def _run(
    live: Live, feed: SnapshotFollower, runner: DataPlane, health: Health, status: Status, stopped: asyncio.Event
) -> None:
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
