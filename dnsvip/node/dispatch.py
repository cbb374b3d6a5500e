"""`dnsvip dispatch`: forward the packets of the cluster prefixes to their servers, until it is stopped."""

from __future__ import annotations

import os
from asyncio import Event
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import structlog
import uvloop

from dnsvip.dispatcher.io.control import SOCKET, Control
from dnsvip.dispatcher.io.data_plane import DataPlane
from dnsvip.dispatcher.io.health.checks import Health, reported, with_health
from dnsvip.dispatcher.io.user.runner import Runner
from dnsvip.node.give_way import GiveWay
from dnsvip.node.health_endpoints import observed_dispatch, observing
from dnsvip.node.lifecycle import following, run_until_one_ends, stop_on_signal
from dnsvip.node.reload import LiveConfig, reload_on_hangup
from dnsvip.node.runtime_tuning import GcFreezer, shorten_gil_interval
from dnsvip.node.sampled_logs import flow_log
from dnsvip.node.sd_notify import Notifier
from dnsvip.node.usage_report import UsageReport
from dnsvip.site import Snapshot
from dnsvip.site.io.files import load_node
from dnsvip.site.node_file import DispatchSettings
from dnsvip.store.following.follower import SnapshotFollower
from dnsvip.telemetry.log import configure

Status: TypeAlias = Callable[[], dict[str, Any]]
log = structlog.get_logger()


def dispatch(node_file: Path, *, detach: bool) -> None:
    """Forward packets for the cluster prefixes to their servers until SIGTERM.

    With `detach` the kernel program is removed at the end; otherwise it stays and keeps forwarding.
    """
    node = load_node(node_file)
    configure(node.log)
    shorten_gil_interval()
    uvloop.run(_dispatch(LiveConfig(node_file, node), node.dispatch or DispatchSettings(), keep=not detach))


def make_runner(
    settings: DispatchSettings, snapshot: Snapshot, *, keep: bool = True, state_dir: Path | None = None
) -> DataPlane:
    """The runner for the node's mode; with `keep` the kernel program stays when the runner stops."""
    if settings.mode == "xdp":
        from dnsvip.dispatcher.io.xdp.runner import XdpRunner  # noqa: PLC0415 - libbpf is needed in this mode only

        return XdpRunner(settings, snapshot, keep=keep)
    return Runner(settings, snapshot, state_dir=state_dir)


async def _dispatch(live: LiveConfig, settings: DispatchSettings, *, keep: bool) -> None:
    node, stopped = live.node, stop_on_signal()
    async with following(node, ["dispatch"]) as follower:
        runner, health = make_runner(settings, follower.snapshot, keep=keep, state_dir=node.state_dir), Health()
        await runner.start()

        follower.describe(lambda: _report(runner, health))

        flows: Callable[[], Mapping[str, int]] = dict

        def status() -> dict[str, Any]:
            return {**with_health(runner.status(), health), "flow_log": dict(flows())}

        try:
            observed = observed_dispatch(live, follower, status)
            listen, give_way = node.metrics.dispatch_listen, GiveWay(runner.poll)
            async with observing(listen, live, observed, "metrics.dispatch_listen", give_way=give_way):
                with flow_log(live, runner) as flows:
                    await _run(live, follower, runner, health, status, stopped)
        finally:
            await health.stop()
            await runner.stop()


def _report(runner: DataPlane, health: Health) -> dict[str, Any]:
    problems = [*runner.problems, *health.problems]
    return reported(health.status(), ({"where": each.where, "message": each.message} for each in problems))


async def _run(
    live: LiveConfig, follower: SnapshotFollower, runner: DataPlane, health: Health, status: Status, stopped: Event
) -> None:
    freezer, notifier = GcFreezer(), Notifier(os.environ)

    async def take(snapshot: Snapshot) -> None:
        await runner.update(health.update(snapshot))
        freezer.after(snapshot)

    follower.subscribe(take)
    await take(follower.snapshot)
    control = Control(live.node.state_dir / SOCKET, runner, status)
    await control.start()
    summary = {name: value for name, value in runner.status().items() if name in ("mode", "prefixes", "device", "mtu")}
    log.info("dispatching", **summary)
    serving = f"dispatching {', '.join(summary['prefixes'])}"
    reload_on_hangup(live, notifier, serving)
    notifier.ready(serving)
    try:
        await run_until_one_ends(
            (
                follower.run(),
                runner.run(),
                health.run(runner.update),
                UsageReport(runner, follower).run(),
                notifier.keep_alive(),
                stopped.wait(),
            )
        )
        notifier.stopping()
        log.info("stopping", packets=runner.status()["packets"])
    finally:
        control.stop()
