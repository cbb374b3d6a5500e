"""Several processes on one database: one of them fetches zones and tells secondaries, and another takes over."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.dns.primaries import PrimaryKnot
from tests.node.serving import DATABASE, NODE, node, within
from tests.node.test_secondary import KEY, apply, declared, text, ways

ZONE = "far.test"


def test_another_node_takes_over(tmp_path: Path) -> None:
    """NOTIFY to any process of any node makes the one on duty fetch; when its node is killed, another does it."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    with node(tmp_path / "first") as first, node(tmp_path / "second") as second:
        place = f'database = "sqlite:///{first.folder}/dnsvip.db"\nkey_file = "{first.folder}/dnsvip.key"\nnode = "b"\n'
        workers = NODE.replace("[[dns.listen]]", "[dns]\nworkers = 2\n[[dns.listen]]", 1)
        second.write_node(workers.replace(DATABASE, place))
        with PrimaryKnot(tmp_path / "knot", ZONE, text(ZONE, 1), second.dns) as peer:
            apply(first, KEY + declared(ZONE, peer.port))
            first.start("--token-file", "token")
            within(30, lambda: first.dig("A", f"ns.{ZONE}") == "192.0.2.1")
            second.start()
            within(30, lambda: second.dig("A", f"ns.{ZONE}") == "192.0.2.1")
            peer.change(text(ZONE, 2, "new A 192.0.2.2\n"))
            within(30, lambda: second.dig("A", f"new.{ZONE}") == "192.0.2.2" == first.dig("A", f"new.{ZONE}"))
            assert (ways(first, ZONE), ways(second, ZONE)) == ([("AXFR", 1), ("IXFR", 2)], [])
            first.stop(signal.SIGKILL)
            peer.change(text(ZONE, 3, "new A 192.0.2.3\n"))
            within(40, lambda: second.dig("A", f"new.{ZONE}") == "192.0.2.3")
        assert ways(second, ZONE) == [("IXFR", 3)]
