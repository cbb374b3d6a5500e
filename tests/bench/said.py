"""What it costs that clients say something: new flows with claims and flow labels beside proven ones without, in the
kernel program and in user space.

Turns are as in `pairs.py`: all subjects one after the other, and a ratio is that of the best turns. All are proven
addresses of one client that have been decoded before, so that decryption, the same for all, hides nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from dnsvip.address.fields import pack_claims
from dnsvip.address.keyring import Keyring
from dnsvip.address.proof import client_key, prove
from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.engine import decide
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.site import Cluster, Label, Snapshot, Source
from tests.bench.pairs import Pair, in_turn, kernel_of
from tests.bench.program import Frames, Runner, counting
from tests.bench.report import table
from tests.dispatcher.build import (
    ACK,
    CLIENT,
    CLIENTS,
    CLUSTER,
    EPOCH,
    MASTER,
    NOW,
    NOW_NS,
    PUSH,
    SITE,
    segment,
    snapshot,
    with_label,
)
from tests.dispatcher.io.xdp.kernel import frame_of

NOTHING, CLAIMS, BOTH, OTHERS = "nothing", "claims", "claims and label", "label of the host"
ESTABLISHED, IN_PYTHON = "established, of such a cluster", "user space, "
TURNS, PACKETS, NONCES = 300, 256, 256
FIELDS = (("tier", 4), ("client", 10), ("expiry", 4))
LABEL = Label((("quality", 4), ("priority", 3)), 13)
ACME = CLIENTS["acme"]


@dataclass(frozen=True, slots=True)
class Speech:
    """A cluster and what its client says: claims in the address, in the label, or a label of the host's own."""

    cluster: Cluster
    claims: Mapping[str, int]
    label: Mapping[str, int] | int

    @property
    def site(self) -> Snapshot:
        """The site with this cluster."""
        keyring = Keyring(self.cluster.address_layout, [EPOCH])
        return replace(snapshot(replace(SITE, clusters={"web": self.cluster})), keyrings={"web": keyring})

    def packets(self, count: int, port: int) -> list[bytes]:
        """First packets of flows from a port to different addresses."""
        return [self._packet(vip, port) for vip in self.vips(count)]

    def vips(self, count: int) -> list[int]:
        """Proven addresses, at most NONCES different ones, in turn."""
        layout = self.cluster.address_layout
        key, active = client_key(MASTER, layout, ACME.id, 0), self.site.keyrings["web"].active
        assert active
        values = {"tier": 1, "client": ACME.id, "expiry": 15}
        said, slot = pack_claims(self.cluster.claims, self.claims), NOW // self.cluster.slot_seconds
        made = [
            prove(layout, active[1].encode(values | {"nonce": n}), key, ACME.proof.bind, CLIENT, 0, slot, said)
            for n in range(min(count, NONCES))
        ]
        return [made[n % len(made)] for n in range(count)]

    def _packet(self, vip: int, port: int) -> bytes:
        form, label = self.cluster.label_format, self.label
        if form and not isinstance(label, int):
            key = client_key(MASTER, self.cluster.address_layout, ACME.id, 0)
            slot = NOW // self.cluster.slot_seconds
            label = form.make(vip, key, ACME.proof.bind, CLIENT, 0, slot, form.pack(label))
        return with_label(segment(vip, port=port), label if isinstance(label, int) else 0)


def speeches() -> dict[str, Speech]:
    """Two clusters with addresses of the same size: one whose clients say nothing, one where they say something in each
    way."""
    silent = replace(CLUSTER, layout=(*FIELDS, ("nonce", 19)))
    told = replace(
        CLUSTER,
        layout=(*FIELDS, ("nonce", 8)),
        claims=(("content", 3), ("session", 8)),
        label=LABEL,
        source=Source((("tier", 4), ("client", 33)), 24),
    )
    claimed = {"content": 1, "session": 9}
    return {
        NOTHING: Speech(silent, {}, 0),
        CLAIMS: Speech(told, claimed, 0),
        BOTH: Speech(told, claimed, {"quality": 9, "priority": 1}),
        OTHERS: Speech(told, claimed, 0x12345),
    }


def compare(turns: int = TURNS, packets: int = PACKETS) -> dict[str, Pair]:
    """All pairs, the kernel's in nanoseconds, those of user space too; needs root."""
    spoken = speeches()
    new, known = _in_kernel(spoken, turns, packets)
    user = _in_python(spoken, max(turns // 10, 1), packets)
    return {
        ESTABLISHED: Pair("established, of a cluster whose clients say something", known[BOTH], known[NOTHING]),
        **{name: Pair(f"new, proven, with {name}", new[name], new[NOTHING]) for name in (CLAIMS, BOTH, OTHERS)},
        **{
            IN_PYTHON + name: Pair(f"new, proven, with {name}, in user space", user[name], user[NOTHING])
            for name in (CLAIMS, BOTH, OTHERS)
        },
    }


def _in_kernel(spoken: Mapping[str, Speech], turns: int, packets: int) -> tuple[dict[str, float], dict[str, float]]:
    """Nanoseconds of the best turn of each, of new flows and of established ones."""
    with ExitStack() as stack:
        runners = {}
        for name, speech in spoken.items():
            kernel = kernel_of(stack, speech.site)
            kernel.writer.settings(now=NOW_NS)
            runners[name] = Runner(kernel.program)
        stack.enter_context(counting())
        for name, speech in spoken.items():
            runners[name].cold(_frames(speech.packets(packets, 999)))
        made = ({name: _frames(one.packets(packets, 2000 + n)) for name, one in spoken.items()} for n in range(turns))
        new = in_turn(runners, made)
        known = {
            name: _frames([segment(vip, ACK | PUSH, 999, data=b"x" * 100) for vip in spoken[name].vips(64)] * 4)
            for name in (NOTHING, BOTH)
        }
        for name, frames in known.items():
            for _ in range(3):
                runners[name].cold(frames)
        return new, in_turn({name: runners[name] for name in known}, [known] * turns)


def _frames(packets: Sequence[bytes]) -> Frames:
    return Frames(map(frame_of, packets))


def _in_python(spoken: Mapping[str, Speech], turns: int, packets: int) -> dict[str, float]:
    """Nanoseconds of the best turn of each, of new flows."""
    tables = {name: DispatchTables(speech.site) for name, speech in spoken.items()}
    some = {name: speech.packets(packets, 2000) for name, speech in spoken.items()}
    best, names = dict.fromkeys(spoken, float("inf")), list(spoken)
    for turn in range(turns):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            flows, start = Flows(1000), time.process_time_ns()
            for packet in some[name]:
                decide(packet, tables[name], flows, NOW_NS)
            best[name] = min(best[name], (time.process_time_ns() - start) / packets)
    return best


def rows(pairs: Mapping[str, Pair]) -> list[tuple[str, ...]]:
    """The rows of a table."""
    return [(pair.title, f"{pair.ns:.0f}", f"{pair.base_ns:.0f}", f"{pair.ratio:.2f}") for pair in pairs.values()]


def main() -> None:
    """Print the table."""
    for line in table(("packet", "ns", "without, ns", "ratio"), rows(compare())):
        print(line)


if __name__ == "__main__":
    main()
