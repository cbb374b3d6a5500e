"""`dnsvip explain`: how a requester is identified, the answer it gets, and where that leads."""

from __future__ import annotations

import click

from dnsvip.cli.shared import show
from dnsvip.cli.shared.api import EPILOG, Api, with_api
from dnsvip.cli.shared.nouns import json_option
from dnsvip.cli.shared.parameters import Choice
from dnsvip.dns.identity.arrival import Transport
from dnsvip.site.plain import JsonObject

EXAMPLES = """
\b
Examples:
  dnsvip explain www.example.test --source 2001:db8:77::1
  dnsvip explain www.example.test --source 127.0.0.1 --ecs 198.51.100.7/32
  dnsvip explain www.example.test A --source 192.0.2.9 --tsig acme-key
  dnsvip explain www.example.test --source 192.0.2.9 --token acme-phone --transport https
"""

STEPS: show.Columns = {
    "STEP": lambda step: step["step"],
    "": lambda step: "decided" if step["decided"] else "",
    "WHY": lambda step: step["detail"],
}

CANDIDATES: show.Columns = {
    "SERVER": lambda one: one["server"],
    "ADDRESS": lambda one: one["address"],
    "WEIGHT": lambda one: one["weight"],
    "STATE": lambda one: one["state"],
    "SHARE": lambda one: f"{100 * one['share']:.1f} %",
}


@click.command(epilog=EXAMPLES + "\n" + EPILOG)
@click.argument("qname")
@click.argument("qtype", default="AAAA")
@click.option("--source", required=True, metavar="ADDRESS", help="Who sends the query, mostly a resolver.")
@click.option("--ecs", metavar="ADDRESS/LENGTH", help="The client subnet that the query carries.")
@click.option("--tsig", metavar="KEY", help="The TSIG key that it is signed with.")
@click.option("--tls", metavar="NAME", help="A name in the client certificate that is shown.")
@click.option("--token", metavar="TOKEN", help="The name of the DNS token that it carries.")
@click.option(
    "--transport",
    type=Choice([transport.value for transport in Transport]),
    help="What it comes over; by default udp, with a certificate or token tls.",
)
@click.option("--listener", default="default", help="The listener that it comes to.", show_default=True)
@click.option("--flow-source", metavar="ADDRESS", help="Where the example connection comes from.")
@click.option("--flow-port", type=click.IntRange(0, 65535), help="And from which port.")
@json_option
@with_api
def explain(api: Api, *, as_json: bool, **asked: str | int | None) -> None:
    """Explain how a requester of QNAME is identified, the answer it gets, and where each address leads."""
    explained = api.call("POST", "explain", body={key: value for key, value in asked.items() if value is not None})
    if as_json:
        click.echo(show.json_text(explained, 2))
        return
    _who(explained)
    show.rows(STEPS, explained["steps"], as_json=False)
    answer = explained["answer"]
    scope = "" if answer["ecs_scope"] is None else f", ECS scope {answer['ecs_scope']}"
    show.say(f"\nanswer: {answer['rcode']}, {answer['why'] or answer['outcome']}{scope}")
    for record in answer["records"]:
        show.say(f"  {record}")
    if left_out := answer.get("left_out"):
        show.say(f"  and {left_out} more records")
    for flow in explained["flows"]:
        _flow(flow)
    if explained.get("drained_nodes"):
        show.say(f"\ndrained, so without traffic: {', '.join(explained['drained_nodes'])}", fg="yellow")


def _who(explained: JsonObject) -> None:
    client, rule = explained["client"], explained["rule"]
    if client:
        show.say(f"client {client['name']} (id {client['id']}), tier {client['tier']}, by {rule['step']}", bold=True)
    elif rule:
        show.say(f"nobody: {rule['client'] or 'the client'} is not in use (found by {rule['step']})", bold=True)
    else:
        click.secho("nobody that is known", bold=True)


def _flow(flow: JsonObject) -> None:
    source = f"from {flow['source']} port {flow['port']} to port {flow['service_port']}"
    where = f"to server {flow['server']} of pool {flow['pool']}" if flow["server"] else flow["action"]
    rule = {None: "", "client": ", its client's own"}.get(flow["rule"], f", by rule {flow['rule']}")
    priority = f", priority {flow['priority']}" if flow["priority"] else ""
    show.say(f"\n{flow['address']}: {where}{rule}{priority} ({flow['reason']}; {source})")
    if flow["candidates"]:
        show.rows(CANDIDATES, flow["candidates"], as_json=False)
