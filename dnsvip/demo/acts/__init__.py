"""The acts, in order: each runs real programs and yields what their output proves.

The first line of an act's docstring is its title on the screen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dnsvip.demo.acts.answers import gold_client, plain_client
from dnsvip.demo.acts.change import attribute_rule, key_rotation, own_server, tier_change
from dnsvip.demo.acts.flood import flood
from dnsvip.demo.acts.latency import connection_latency
from dnsvip.demo.acts.loss import lost_dispatcher
from dnsvip.demo.acts.lost_server import lost_server
from dnsvip.demo.acts.operator import set_up
from dnsvip.demo.acts.proof import enrolled_client, forged_address
from dnsvip.demo.acts.revoke import revocation
from dnsvip.demo.acts.token import token_client
from dnsvip.demo.acts.wire import direct_return
from dnsvip.demo.record import Check
from dnsvip.demo.stage import Stage

Play = Callable[[Stage], Iterator[Check]]

ACTS: tuple[Play, ...] = (
    set_up,
    plain_client,
    gold_client,
    token_client,
    enrolled_client,
    forged_address,
    tier_change,
    attribute_rule,
    own_server,
    key_rotation,
    direct_return,
    revocation,
    lost_dispatcher,
)

MEASURED: tuple[Play, ...] = (connection_latency, flood, lost_server)
"""What is measured for a page, before the last act: it takes longer, and the world has a slow link."""


def acts_of(*, measured: bool) -> tuple[Play, ...]:
    """The acts of a demo."""
    return (*ACTS[:-1], *MEASURED, ACTS[-1]) if measured else ACTS
