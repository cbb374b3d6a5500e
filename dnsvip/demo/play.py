"""The demo from curtain to curtain: build the world, play the acts, report, take everything down."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from dnsvip.demo import programs, site, topology
from dnsvip.demo.acts import ACTS, Play
from dnsvip.demo.netns import World, shown, sweep
from dnsvip.demo.record import Act, Ran
from dnsvip.demo.report import Report
from dnsvip.demo.stage import DNSVIP, Stage
from dnsvip.errors import DnsvipError, PlatformError

NEEDED = {"unbound": "unbound", "dig": "bind9-dnsutils", "curl": "curl", "tcpdump": "tcpdump", "ss": "iproute2"}
"""Programs the acts run, and the Debian package each is in."""


def play(report: Report, *, keep: bool = False) -> bool:
    """Show everything; whether all of it held. Raises PlatformError where the machine lacks something."""
    _check_machine()
    sweep()
    started = time.monotonic()
    with TemporaryDirectory(prefix="dnsvip-demo-") as name, contextlib.chdir(name), World() as world:
        folder = Path(name)
        hosts = topology.build(world)
        site.write(folder)
        _write_enter(folder, world)
        programs.start_surroundings(hosts, folder)
        report.opening()
        acts = _play_all(Stage(hosts, folder), report)
        report.closing(acts, time.monotonic() - started, folder)
        if keep:
            report.kept(folder, shown(hosts.router.command("sh")))
            _wait()
    return all(act.held for act in acts)


def _play_all(stage: Stage, report: Report) -> list[Act]:
    """All acts; where the first, which starts everything, fails, the others have nothing to show."""
    acts: list[Act] = []
    for play in ACTS:
        acts.append(_play_act(play, stage, report))
        if not acts[0].held:
            break
    return acts


def _play_act(play: Play, stage: Stage, report: Report) -> Act:
    """Run one act; what goes wrong in it is its failure, and the next act gets its chance."""
    act = Act(play.__name__, (play.__doc__ or "").partition("\n")[0].rstrip("."))
    report.act(act)

    def show(ran: Ran) -> None:
        act.commands.append(ran)
        report.command(ran)

    try:
        for check in play(replace(stage, show=show)):
            act.checks.append(check)
            report.check(check)
    except DnsvipError as error:
        act.failure = str(error)
        report.failure(act.failure)
    return act


def _check_machine() -> None:
    if reason := World.available(tun=True):
        raise PlatformError(reason)
    for program, package in NEEDED.items():
        if shutil.which(program) is None:
            raise PlatformError(f"no program `{program}`; as root: apt-get install {package}")


def _write_enter(folder: Path, world: World) -> None:
    """A script that runs a command on a host as the demo did."""
    cases = "\n".join(f'{name}) exec {shown(host.command())} "$@" ;;' for name, host in world.hosts.items())
    script = f"""#!/bin/sh
# ./enter HOST [COMMAND ...]: run a command, or a shell, on a host of the demo.
PATH={shown([DNSVIP.parent])}:$PATH
name=$1
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- "${{SHELL:-sh}}"
case $name in
{cases}
*) echo "hosts: {" ".join(world.hosts)}" >&2; exit 2 ;;
esac
"""
    (folder / "enter").write_text(script)
    (folder / "enter").chmod(0o700)


def _wait() -> None:
    """Until Enter or Ctrl-C; where there is no keyboard, until a signal (the world turns SIGTERM into an exit)."""
    with contextlib.suppress(KeyboardInterrupt):
        if not sys.stdin.readline():
            signal.pause()
