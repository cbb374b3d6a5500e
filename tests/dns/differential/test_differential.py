"""Our answers beside those of NSD, Knot and BIND, over random zones: every difference has an explanation."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.dns.differential.asking import Answer, ask_tcp, ask_udp, query, read
from tests.dns.differential.explained import EXPLAINED, World, differences, explain
from tests.dns.differential.generate import Generator, Question, text_of
from tests.dns.differential.peers import Bind, Knot, Nsd, Ours

WORLDS = {"with-root-1": 1, "without-root-2": 2, "with-root-3": 3, "without-root-4": 4}
"""Each world is some nine zones; seeds that are odd have a root zone."""

PEERS = ("nsd", "knot", "bind")
QUESTIONS = 1000
UDP_EVERY = 3
MOST_EXPLAINED = 0.25
"""If more of a peer's answers than this differed, what is compared would be too little."""


class Compared:
    """All servers' answers to the same questions."""

    def __init__(self, seed: int, folder: Path) -> None:
        generator = Generator(seed)
        zones = generator.world(root=seed % 2 == 1)
        self.world = World(zones)
        self.questions = generator.questions(zones, QUESTIONS)
        texts = {text_of(zone.apex): zone.text for zone in zones}
        numbers = range(0, QUESTIONS, UDP_EVERY)
        with (
            Nsd(folder / "nsd", texts) as nsd,
            Knot(folder / "knot", texts) as knot,
            Bind(folder / "bind", texts) as bind,
            Ours(texts) as ours,
        ):
            ports = {"nsd": nsd.port, "knot": knot.port, "bind": bind.port, "ours": ours.port}
            self.tcp = {peer: self.ask(ask_tcp, port, range(QUESTIONS)) for peer, port in ports.items()}
            self.udp = {peer: self.ask(ask_udp, port, numbers) for peer, port in ports.items()}
        self.logs = {peer: (folder / peer / "log").read_text() for peer in PEERS}

    def ask(self, how: Callable[[int, Sequence[bytes]], list[bytes]], port: int, numbers: range) -> dict[int, Answer]:
        messages = [query(self.questions[n], position, edns=n % 2 == 0) for position, n in enumerate(numbers)]
        return {n: read(wire) for n, wire in zip(numbers, how(port, messages), strict=True)}

    def found(self, answers: dict[str, dict[int, Answer]]) -> Iterator[tuple[int, str, str | None]]:
        """(question, peer, why) of every answer that differs from ours."""
        for number, ours in answers["ours"].items():
            theirs = {peer: answers[peer][number] for peer in PEERS}
            for peer, answer in theirs.items():
                if differences(ours, answer):
                    yield number, peer, explain(peer, self.world, self.questions[number], ours, theirs)

    def report(self, answers: dict[str, dict[int, Answer]], number: int, peer: str) -> str:
        question: Question = self.questions[number]
        parts = differences(answers["ours"][number], answers[peer][number])
        shown = "\n".join(f"{name}: {of[number]}" for name, of in answers.items())
        return f"{text_of(question.name)} {question.rtype}: {peer} differs in {', '.join(parts)}\n{shown}"


@pytest.fixture(scope="module", params=list(WORLDS))
def compared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Compared:
    return Compared(WORLDS[request.param], tmp_path_factory.mktemp("world"))


def test_peers_serve_every_zone(compared: Compared) -> None:
    """The peers find nothing wrong with the generated zones, so silence of theirs is never compared."""
    errors = re.compile(r"errors?\b(?!=)", re.IGNORECASE)
    assert not [line for log in compared.logs.values() for line in log.splitlines() if errors.search(line)]


def test_tcp_answers(compared: Compared) -> None:
    """Header flags and every section are those of NSD, Knot and BIND, or the table of differences says why not."""
    differences = list(compared.found(compared.tcp))
    unexplained = [compared.report(compared.tcp, number, peer) for number, peer, why in differences if why is None]
    assert not unexplained, "\n\n".join(unexplained[:5])
    for peer in PEERS:
        assert sum(of == peer for _, of, _ in differences) < MOST_EXPLAINED * QUESTIONS, peer


def test_udp_answers(compared: Compared) -> None:
    """By UDP the same records come or the same truncation, where the answers by TCP are the same."""
    differ = {(number, peer) for number, peer, _ in compared.found(compared.tcp)}
    differences = [item for item in compared.found(compared.udp) if item[:2] not in differ]
    unexplained = [compared.report(compared.udp, number, peer) for number, peer, why in differences if why is None]
    assert not unexplained, "\n\n".join(unexplained[:5])


def test_questions_reach_everything(compared: Compared) -> None:
    """The generated questions find answers, referrals, names too long, truncation, and names that are not there."""
    seen = Counter(answer.rcode for answer in compared.tcp["ours"].values())
    kinds = Counter(record.rtype for answer in compared.tcp["ours"].values() for record in answer.answer)
    assert min(seen["NOERROR"], seen["NXDOMAIN"]) > 50
    assert seen["YXDOMAIN"] > 0
    assert min(kinds[rtype] for rtype in ("CNAME", "DNAME", "A", "TYPE65400", "DS", "HINFO")) > 0
    assert any(answer.tc for answer in compared.udp["ours"].values())
    assert any(not answer.aa and answer.authority for answer in compared.tcp["ours"].values())


def test_every_explanation_names_its_source() -> None:
    """Each row of the table names an RFC, or the freedom to answer with little."""
    assert all(row.why.startswith(("RFC ", "minimal responses")) for row in EXPLAINED)
