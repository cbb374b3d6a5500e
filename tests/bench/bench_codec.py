"""The cost of the codec and of the decisions around it, next to one AES block in the same run.

    python -m tests.bench.bench_codec [--json]

Each figure is the median of several rounds, in microseconds of CPU time per item.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from ipaddress import IPv4Address
from statistics import median
from time import process_time

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from dnsvip.address.proof import Bind, client_key, prove, verify
from dnsvip.dispatcher.verify.verifier import AddressVerifier
from dnsvip.dns.identity.identify import Classified, Classifier, Requester
from dnsvip.dns.synthesis.vip import VipMaker
from dnsvip.site import Service, Step
from tests.bench.goals import judge
from tests.bench.outcome import Result, conclude
from tests.samples import MASTER, NOW, make_snapshot

ROUNDS = 7
SECONDS = 0.05
"""Minimum CPU time of a round."""

BATCH = 256


def cost(call: Callable[[], object], items: int = 1) -> float:
    """Microseconds of CPU time per item of one call."""
    count = 1
    while (spent := _run(call, count)) < SECONDS:
        count = max(count * 2, int(count * SECONDS / max(spent, 1e-9)))
    return median(_run(call, count) for _ in range(ROUNDS)) / count / items * 1e6


def _run(call: Callable[[], object], count: int) -> float:
    start = process_time()
    for _ in range(count):
        call()
    return process_time() - start


def measure() -> dict[str, float]:
    """Measure every figure, by name."""
    snapshot = make_snapshot({"cluster": {"web": {"anonymous": "encoded"}}})
    active = snapshot.keyrings["web"].active
    assert active is not None
    codec, layout = active[1], active[1].layout
    values = {"tier": 1, "client": 1001, "expiry": 127, "nonce": 9}
    payloads = [layout.pack({**values, "client": i}) for i in range(BATCH)]
    issued = codec.encode(values)
    key = client_key(MASTER, layout, 1001, 0)
    proven = prove(layout, issued, key, Bind.ADDRESS, 1, 2, int(NOW) // 30)
    block = Cipher(algorithms.AES(bytes(16)), modes.ECB()).encryptor().update  # noqa: S305 - the unit, one block
    figures = {
        "one AES block": cost(lambda: block(bytes(16))),
        "encode": cost(lambda: codec.encode(values)),
        "encode in a batch of 256": cost(lambda: codec.seal_batch(payloads), BATCH),
        "decode": cost(lambda: codec.authentic(issued) and codec.decode(issued)),
        "refuse a forged tag": cost(lambda: codec.authentic(issued ^ 1)),
        "verify a proof": cost(lambda: verify(layout, proven, key, Bind.ADDRESS, 1, 2, int(NOW) // 30)),
    }
    verifier, maker, classifier = AddressVerifier(snapshot), VipMaker(snapshot), Classifier(snapshot)
    service, acme = Service("www.example.test", "web"), Classified(snapshot.site.clients["acme"], Step.SOURCE)
    requester = Requester(IPv4Address("203.0.113.9"))
    crowd = [(Classified(None, None), Requester(IPv4Address(i << 8))) for i in range(BATCH)]
    return figures | {
        "judge an issued address": cost(lambda: verifier.verify(issued, 1, 2, NOW)),
        "judge a proven address": cost(lambda: verifier.verify(proven, 1, 2, NOW)),
        "judge a forged address": cost(lambda: verifier.verify(issued ^ 1, 1, 2, NOW)),
        "classify by source": cost(lambda: classifier.classify(requester)),
        "answer a client again": cost(lambda: maker.aaaa(service, acme, requester, NOW)),
        "answer new clients, 256 at once": cost(lambda: VipMaker(snapshot).seal_batch(service, crowd, NOW), BATCH),
    }


def main() -> None:
    """Print the figures; exit with 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    as_json = parser.parse_args().json
    figures = measure()
    unit = figures["one AES block"]
    if as_json:
        verdicts = judge("codec", figures)
        goals = {verdict.goal.figure: verdict.goal.most for verdict in verdicts}
        print(json.dumps({"unit": "us", "figures": figures, "goals": goals}, indent=2))
        raise SystemExit(not all(verdict.met for verdict in verdicts))
    rows = (f"{name:34} {figure:8.2f} us {figure / unit:8.1f} AES blocks" for name, figure in figures.items())
    raise SystemExit(conclude(Result("codec", "\n".join(rows), figures)))


if __name__ == "__main__":
    main()
