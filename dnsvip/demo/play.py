"""The demo from start to end: build the world, play the acts, report, tear everything down."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

from dnsvip.demo import kernel, programs, scripts, site, topology
from dnsvip.demo.acts import Play, acts_of
from dnsvip.demo.netns import World, shown, sweep
from dnsvip.demo.record import Act, Ran
from dnsvip.demo.report import Report
from dnsvip.demo.stage import Stage
from dnsvip.errors import DnsvipError, PlatformError

NEEDED = {
    "unbound": "unbound",
    "dig": "bind9-dnsutils",
    "curl": "curl",
    "openssl": "openssl",
    "tcpdump": "tcpdump",
    "ss": "iproute2",
}
"""Programs that the acts run, and the Debian package of each."""


FOR_MEASURING = {"haproxy": "haproxy", "ethtool": "ethtool"}
"""The same for those that measure."""


def play(report: Report, *, keep: bool = False, xdp: bool = False, measured: bool = False) -> bool:
    """Play all acts, with `xdp` on the kernel dispatcher, with `measured` those too that compare and measure; whether
    every check held. Raises PlatformError where the machine lacks something."""
    _check_machine(NEEDED | (FOR_MEASURING if measured else {}))
    sweep()
    started = time.monotonic()
    with TemporaryDirectory(prefix="dnsvip-demo-") as name, contextlib.chdir(name), World() as world:
        folder = Path(name)
        hosts = topology.build(world, slow=measured)
        site.write(folder, _into_the_kernel(world, hosts, folder) if xdp else None)
        scripts.write(folder, world)
        programs.start_surroundings(hosts, folder)
        report.opening()
        acts = _play_all(acts_of(measured=measured), hosts, folder, report, xdp=xdp)
        report.closing(acts, time.monotonic() - started, folder)
        if keep:
            report.kept(folder, shown(hosts.router.command("sh")))
            _wait()
    return all(act.held for act in acts)


def _into_the_kernel(world: World, hosts: topology.Hosts, folder: Path) -> Path:
    """Prepare the dispatchers' links for XDP; returns the folder for pins."""
    pins = folder / "bpffs"
    kernel.mount_pins(world, pins)
    for host, dispatcher in product((hosts.router, hosts.segment), (hosts.dispatcher, hosts.second)):
        kernel.face(host, dispatcher.name, pins)
    return pins


def _play_all(plays: Sequence[Play], hosts: topology.Hosts, folder: Path, report: Report, *, xdp: bool) -> list[Act]:
    """Play all acts; if the first, which starts everything, fails, the others are skipped."""
    acts: list[Act] = []
    for play in plays:
        acts.append(_play_act(play, hosts, folder, report, xdp=xdp))
        if not acts[0].held:
            break
    return acts


def _play_act(play: Play, hosts: topology.Hosts, folder: Path, report: Report, *, xdp: bool) -> Act:
    """Play one act; an error in it is its failure, and the next act still runs."""
    act = Act(play.__name__, (play.__doc__ or "").partition("\n")[0].rstrip("."))
    report.act(act)

    def show(ran: Ran) -> None:
        act.commands.append(ran)
        report.command(ran)

    try:
        for check in play(Stage(hosts, folder, show, xdp, act.figures.__setitem__)):
            act.checks.append(check)
            report.check(check)
    except DnsvipError as error:
        act.failure = str(error)
        report.failure(act.failure)
    return act


def _check_machine(needed: Mapping[str, str]) -> None:
    if reason := World.available(tun=True):
        raise PlatformError(reason)
    for program, package in needed.items():
        if shutil.which(program) is None:
            raise PlatformError(f"no program `{program}`; as root: apt-get install {package}")


def _wait() -> None:
    """Until Enter or Ctrl-C; where there is no keyboard, until a signal (the world turns SIGTERM into an exit)."""
    with contextlib.suppress(KeyboardInterrupt):
        if not sys.stdin.readline():
            signal.pause()
