"""`dnsvip dispatch`: forward the packets of the cluster prefixes to their servers, until it is stopped."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import structlog
import uvloop

from dnsvip.dispatcher.health.report import reported
from dnsvip.dispatcher.io.control import SOCKET, Control
from dnsvip.dispatcher.io.data_plane import DataPlane
from dnsvip.dispatcher.io.health.checks import Health, with_health
from dnsvip.dispatcher.io.user.host import DEVICE
from dnsvip.dispatcher.io.user.runner import Runner
from dnsvip.node.announced_routes import AnnouncedRoutes, Prefix
from dnsvip.node.announcing import Announcer
from dnsvip.node.figures import FIGURES, DispatcherTop, figures
from dnsvip.node.flow_log import flow_log
from dnsvip.node.give_way import GiveWay
from dnsvip.node.lifecycle import Stopping, following, run_until_one_ends
from dnsvip.node.observed import observed_dispatch
from dnsvip.node.reload import LiveConfig, reload_on_hangup
from dnsvip.node.runtime_tuning import WAITING, GcFreezer, shorten_gil_interval
from dnsvip.node.sd_notify import Notifier
from dnsvip.node.usage_report import UsageReport
from dnsvip.site import Address, Snapshot
from dnsvip.site.io.files import load_node
from dnsvip.site.node_file import AnnounceSettings, DispatchSettings
from dnsvip.site.readiness import DISPATCH, Asked, Code, Reason, cluster_reasons
from dnsvip.store.following.follower import SnapshotFollower
from dnsvip.telemetry.log import configure
from dnsvip.telemetry.observed import Observed

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
    node, stopping = live.node, Stopping()
    async with following(node, ["dispatch"]) as follower:
        runner, health = make_runner(settings, follower.snapshot, keep=keep, state_dir=node.state_dir), Health()
        await runner.start()

        usage = UsageReport(runner, follower, DispatcherTop(live, runner))
        follower.describe(lambda: _report(runner, health, usage))

        flows: Callable[[], Mapping[str, int]] = dict

        def status() -> dict[str, Any]:
            own = {"node": follower.name, "instance": follower.instance, "sent": runner.totals()["sent"]}
            used = usage.total._asdict()
            return {**with_health(runner.status(), health), **own, "usage": used, "flow_log": dict(flows())}

        try:
            missing = partial(_missing, runner, health, follower)
            observed = observed_dispatch(live, follower, status, missing, stopping.asked.is_set)
            async with _exposed(live, observed, GiveWay(runner.poll)):
                with flow_log(live, runner) as flows:
                    announcing = _announcing(live, follower, observed, stopping) if node.announce else ()
                    await _run(live, follower, runner, health, [usage.run(), *announcing], status, stopping)
        finally:
            await health.stop()
            await runner.stop()


def _exposed(live: LiveConfig, observed: Observed, give_way: GiveWay) -> AbstractAsyncContextManager[Any]:
    """Expose `observed` while the context lasts, where the node file says so."""
    listen = live.node.metrics.dispatch_listen
    if listen is None:
        return nullcontext()
    from dnsvip.node.health_endpoints import observing  # noqa: PLC0415 - a dispatcher has no other need of HTTP

    return observing(listen, live, observed, "metrics.dispatch_listen", give_way=give_way)


def _missing(runner: DataPlane, health: Health, follower: SnapshotFollower, cluster: str | None) -> tuple[Reason, ...]:
    """What this dispatcher lacks to forward the packets of a cluster, or of any."""
    fault = runner.fault()
    detached = (Reason(Code.DETACHED, fault),) if fault else ()
    if cluster is None:
        return detached
    unreachable = runner.unreachable

    def usable(pools: Iterable[str]) -> Iterator[Address]:
        return (address for address in health.usable(pools) if address.packed not in unreachable)

    return (*detached, *cluster_reasons(cluster, follower.snapshot.site, usable))


def _report(runner: DataPlane, health: Health, usage: UsageReport) -> dict[str, Any]:
    problems, totals = [*runner.problems, *health.problems], runner.totals()
    report = reported(health.status(), ({"where": each.where, "message": each.message} for each in problems))
    return {**report, FIGURES: figures("dispatcher", totals, flows=totals["flows"], top=usage.top.shown())}


def _announcing(
    live: LiveConfig, follower: SnapshotFollower, observed: Observed, stopping: Stopping
) -> Sequence[Awaitable[None]]:
    """Announces the prefixes of clusters by routes into the TUN device, which takes their packets anyway."""
    settings = live.node.announce or AnnounceSettings()
    only = settings.clusters

    def against() -> dict[Prefix, list[Reason]]:
        clusters = follower.snapshot.site.clusters
        names = [name for name in clusters if only is None or name in only]
        return {clusters[name].prefix: observed.reasons(Asked(DISPATCH, name)) for name in names}

    if unknown := sorted(set(only or ()) - follower.snapshot.site.clusters.keys()):
        log.warning("announce.clusters has names that the site has not", clusters=unknown)
    announcer = Announcer(AnnouncedRoutes(DEVICE), against, lambda: live.node.grace, settings.hold_seconds)
    return (announcer.run(stopping.asked),)


async def _run(
    live: LiveConfig,
    follower: SnapshotFollower,
    runner: DataPlane,
    health: Health,
    work: Sequence[Awaitable[None]],
    status: Status,
    stopping: Stopping,
) -> None:
    freezer, notifier = GcFreezer(WAITING), Notifier(os.environ)

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
                *work,
                notifier.keep_alive(),
                stopping.over(notifier, lambda: live.node.grace),
            )
        )
        log.info("stopping", packets=runner.status()["packets"])
    finally:
        control.stop()
