"""Whether a dispatcher of either data plane should get a cluster's traffic, by what happens to it and its servers."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.network.dispatching import wait_until
from tests.network.field import VERIFYING, Field, kernel_world
from tests.network.hosted import run_on

pytestmark = [pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(300)]

CHECK = "check = { tcp = 8000, interval = 0.5, timeout = 2.0 }"
METRICS = '[metrics]\ndispatch_listen = "127.0.0.1:9153"\n'


class Asked(Field):
    """Dispatchers that can be asked, before servers of which only those of pool `nat` have no check."""

    least = 1

    def node(self, name: str) -> str:
        """See Field.node."""
        return super().node(name) + METRICS

    def site(self) -> str:
        """See Field.site."""
        text = super().site().replace('forward = "encap"', f'forward = "encap"\n{CHECK}')
        return text.replace("[cluster.legacy]", f"min_servers = {self.least}\n[cluster.legacy]", 1)

    def codes(self, name: str, query: str = "?role=dispatch&cluster=web") -> list[str]:
        """The codes of the reasons why a dispatcher is not ready."""
        curl = ("curl", "-s", "-m", "10", f"http://127.0.0.1:9153/readyz{query}")
        return [reason["code"] for reason in json.loads(self.dispatchers[name].run(*curl).stdout)["reasons"]]

    def become(self, *codes: str) -> None:
        """Wait until every dispatcher has these reasons, and no others."""
        for name in self.dispatchers:
            wait_until(lambda name=name: self.codes(name) == list(codes), 30)


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """Two running dispatchers, of either plane."""
    with kernel_world() as world:
        made = Asked(world, tmp_path_factory.mktemp("ready"), ["user", "xdp"])
        for name in made.dispatchers:
            made.dispatch(name)
        yield made


def test_servers_are_counted(field: Asked) -> None:
    """A cluster of more servers than are healthy is not ready: by its number, by checks, by routes; another one is."""
    field.become()
    field.least = 6  # four behind a check, one without
    field.apply()
    field.become("servers")
    assert field.codes("d1", "?role=dispatch&cluster=legacy") == []
    field.least = 5
    field.apply()
    field.become()
    field.segment.ip("link", "set", "s2", "down")
    field.become("servers")
    assert field.codes("d1", "?role=dispatch") == []
    field.segment.ip("link", "set", "s2", "up")
    field.become()


def test_the_next_process(field: Asked) -> None:
    """A dispatcher that finds its own program attached, with nothing to replace, is ready too."""
    field.become()
    field.processes["d2"].terminate()
    field.processes["d2"].wait(20)
    field.dispatch("d2")
    wait_until(lambda: field.codes("d2", "") == [], 20)


def test_a_data_plane_that_gets_no_packets(field: Asked) -> None:
    """A TUN device that is down, and a program that somebody has detached, make a dispatcher not ready at all."""
    field.dispatchers["d1"].ip("link", "set", "dnsvip0", "down")
    wait_until(lambda: field.codes("d1", "") == ["detached"])
    field.dispatchers["d1"].ip("link", "set", "dnsvip0", "up")
    wait_until(lambda: field.codes("d1", "") == [], 20)
    run_on(field.dispatchers["d2"], "xdp", "detach", field.folder / "d2.toml", timeout=VERIFYING)
    assert field.codes("d2") == ["detached"]
    assert field.codes("d2", "?cluster=x") == ["detached", "unknown-cluster"]
