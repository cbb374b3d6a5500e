"""What quality of service and rules cost the kernel program: pairs of programs and sites side by side.

Each subject is a loaded program of its own, with its own maps and the same packets. A turn measures all of them one
after the other, as `program.py` does ("cold"), beginning with another each time; a ratio is that of the best turns, so
what other work on the machine takes from a turn does not count.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.site import Per, Policing, Site, Snapshot
from dnsvip.xdp.build import HERE, compile_all
from tests.bench.program import FLOWS, Frames, Runner, counting, ruled, vips_of
from tests.dispatcher.build import ACK, PUSH, SITE, TIERS, address, segment, snapshot
from tests.dispatcher.io.xdp.kernel import Kernel, frame_of, loaded

TURNS, PACKETS = 300, 256
WITHOUT, PLAIN, PER_TIER, PER_CLIENT, RULED = "without", "plain", "per tier", "per client", "ruled"
ACME = 1001
IS_POLICED = re.compile(r"(static __always_inline int is_policed\([^)]*\)\n\{\n)\treturn [^;]+;")
POLICE = re.compile(r"^(__noinline int police\()", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Pair:
    """Nanoseconds a packet of the best turn, of one kind of packet in two subjects."""

    title: str
    ns: float
    base_ns: float

    @property
    def ratio(self) -> float:
        """How many times dearer it is."""
        return self.ns / self.base_ns


def compare(turns: int = TURNS, packets: int = PACKETS) -> dict[str, Pair]:
    """All pairs; needs root."""
    with ExitStack() as stack:
        sites = {PLAIN: SITE, PER_TIER: policed(Per.TIER), PER_CLIENT: policed(Per.CLIENT), RULED: ruled()}
        kernels = {name: kernel_of(stack, snapshot(site)) for name, site in sites.items()}
        kernels[WITHOUT] = kernel_of(stack, snapshot(SITE), without_policing())
        stack.enter_context(counting())
        known = _best({name: kernels[name] for name in (WITHOUT, PLAIN, PER_TIER, PER_CLIENT)}, _known(packets), turns)
        new = _best_new({name: kernels[name] for name in (PLAIN, RULED)}, packets, turns)
    return {
        PLAIN: Pair("established, nothing policed, by the program without policing", known[PLAIN], known[WITHOUT]),
        PER_TIER: Pair("established, policed per tier, by the same", known[PER_TIER], known[WITHOUT]),
        PER_CLIENT: Pair("established, policed per client, by the same", known[PER_CLIENT], known[WITHOUT]),
        RULED: Pair("new, 64 rules, by none", new[RULED], new[PLAIN]),
    }


def policed(per: Per) -> Site:
    """The site whose tier gold is policed, at limits that are never reached."""
    policing = Policing(bytes=1e12, packets=1e9, burst=60, per=per)
    return replace(SITE, tiers={**TIERS, "gold": replace(TIERS["gold"], policing=policing)})


def without_policing() -> bytes:
    """The program compiled without policing: no tier is, and the compiler leaves it out.

    `police` then reads no argument. It is weak, so that its callers pass them all the same: the verifier refuses a call
    of a global function with a register that holds no number.
    """
    with TemporaryDirectory() as name:
        folder = Path(name, "programs")
        shutil.copytree(HERE, folder)
        header = folder / "policing.h"
        text, tests = IS_POLICED.subn(r"\1\treturn 0;", header.read_text())
        text, functions = POLICE.subn(r"__attribute__((weak)) \1", text)
        if (tests, functions) != (1, 1):
            raise ValueError("policing.h: no is_policed or police to replace")
        header.write_text(text)
        compile_all(folder, folder)
        return (folder / "dispatch.bpf.o").read_bytes()


def kernel_of(stack: ExitStack, site: Snapshot, variant: bytes | None = None) -> Kernel:
    """A program of its own that decides by a site; the stack removes it."""
    kernel = stack.enter_context(loaded(FLOWS, variant))
    kernel.writer.apply(DispatchTables(site))
    kernel.writer.settings(trace=0, now=0)
    return kernel


def _known(packets: int) -> Frames:
    """Packets of 64 flows of one client in turn."""
    flows = [
        frame_of(segment(address("gold", ACME, nonce), ACK | PUSH, 40_000 + nonce, data=b"x" * 100))
        for nonce in range(64)
    ]
    return Frames((flows * (packets // len(flows) + 1))[:packets])


def _best(kernels: Mapping[str, Kernel], frames: Frames, turns: int) -> dict[str, float]:
    """The best turn of each, of packets that are known from the second on."""
    runners = {name: Runner(kernel.program) for name, kernel in kernels.items()}
    for runner in runners.values():
        for _ in range(3):
            runner.cold(frames)
    return in_turn(runners, [dict.fromkeys(runners, frames)] * turns)


def _best_new(kernels: Mapping[str, Kernel], packets: int, turns: int) -> dict[str, float]:
    """The best turn of each, of the first packets of flows to addresses that have been decoded before."""
    runners = {name: Runner(kernel.program) for name, kernel in kernels.items()}
    vips = vips_of(packets)
    for runner in runners.values():
        runner.cold(Frames(frame_of(segment(vip, port=999)) for vip in vips))
    made = [Frames(frame_of(segment(vip, port=2000 + n)) for vip in vips) for n in range(turns)]
    return in_turn(runners, [dict.fromkeys(runners, frames) for frames in made])


def in_turn(runners: Mapping[str, Runner], turns: Iterable[Mapping[str, Frames]]) -> dict[str, float]:
    """The best turn of each, in nanoseconds a packet."""
    best, names = dict.fromkeys(runners, float("inf")), list(runners)
    for number, frames in enumerate(turns):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            best[name] = min(best[name], runners[name].cold(frames[name]))
    return best


def main() -> None:
    """Print the pairs."""
    for pair in compare().values():
        print(f"{pair.title:60} {pair.ns:7.1f} / {pair.base_ns:7.1f} ns = {pair.ratio:.3f}")


if __name__ == "__main__":
    main()
