"""A client known by a token alone, over DNS by HTTPS."""

from __future__ import annotations

from collections.abc import Iterator

from dnsvip.demo.record import Check
from dnsvip.demo.site import API, DNS_NAME, NAME
from dnsvip.demo.stage import Stage
from dnsvip.demo.topology import FAST

DOH = f"https://{DNS_NAME}/dns-query"


def token_client(stage: Stage) -> Iterator[Check]:
    """A client with a token is gold by DNS over HTTPS, from a network that nobody knows."""
    operator, machine = stage.hosts.dispatcher, stage.hosts.plain
    mint = f"dnsvip dns-tokens mint courier --client courier --api {API} --token-file token > courier.token"
    stage.run(operator, "sh", "-c", mint)
    stage.settle()
    by_token = f'curl -s --cacert dns.pem --doh-url "{DOH}/$(cat courier.token)" http://{NAME}/'
    page = stage.page(machine, "sh", "-c", by_token)
    said = stage.run(operator, "dnsvip", "decode", str(page.asked), "--config", "node.toml")
    seen = f"client-plain -> {page.server}" + (", client courier" if "(courier)" in said else "")
    gold = page.server in FAST and "(courier)" in said
    yield Check("a token alone makes a client gold, by HTTPS", gold, seen)
    wrong = f"curl -s --cacert dns.pem -H 'Authorization: Bearer dv{'a' * 26}' {DOH}?dns={'A' * 16}"
    told = stage.shell(machine, wrong).stdout.strip()
    yield Check("an unknown token is refused", told == "this token is unknown", told)
