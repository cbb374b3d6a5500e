"""`dnsvip watch`: what happens to packets at this machine's dispatcher, or to questions at its DNS server, live."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import click

from dnsvip.cli.machine.dispatching import CONFIG, ask, ends, matching, selecting
from dnsvip.cli.machine.questions import line_of as line_of_question
from dnsvip.cli.machine.questions import watched
from dnsvip.cli.shared.nouns import json_option
from dnsvip.errors import PlatformError
from dnsvip.site.plain import JsonObject


@click.command()
@click.argument("what", metavar="[ADDRESS|PREFIX|CLIENT|NAME]", required=False)
@selecting
@click.option(
    "--questions", is_flag=True, help="Questions at the DNS server, by a name and those below it, or a source."
)
@click.option("--reason", help="Those of one reason, such as bad-tag, or outcome; `dnsvip status` counts them all.")
@click.option("--count", type=click.IntRange(min=1), help="End after so many packets or questions.")
@CONFIG
@json_option
def watch(
    what: str | None,
    tier: str | None,
    server: str | None,
    reason: str | None,
    count: int | None,
    node_file: Path,
    as_json: bool,
    questions: bool,
) -> None:
    """Show each packet of an address, a prefix or a client, or of all: its verdict and why. Ctrl-C stops it.

    An address is a source, a VIP or a server. Where packets are too many some are left out, and it says how many.
    With --json each packet is one line of JSON. With --questions it is questions and their answers, those that the
    kernel answers included.
    """
    if questions:
        if server is not None:
            raise click.UsageError("--server is for packets; questions go to no server")
        _show_questions(node_file, {"what": what, "tier": tier, "outcome": reason}, count, as_json=as_json)
        return
    chosen = matching(what, tier=tier, server=server, reason=reason)
    seen = 0
    try:
        for document in ask(node_file, {"do": "watch", "match": chosen}):
            if "packet" not in document:
                click.echo(_remark(document), err=True)
                continue
            click.echo(json.dumps(document["packet"]) if as_json else line_of(document["packet"]))
            seen += 1
            if seen == count:
                return
    except KeyboardInterrupt:
        return
    raise PlatformError("the dispatcher has stopped")


def _show_questions(node_file: Path, match: JsonObject, count: int | None, *, as_json: bool) -> None:
    seen = 0
    try:
        chosen = {name: value for name, value in match.items() if value is not None}
        for document in watched(node_file, chosen):
            if "question" in document:
                click.echo(json.dumps(document["question"]) if as_json else line_of_question(document["question"]))
                seen += 1
                if seen == count:
                    return
            elif "dns" not in document:
                click.echo(_remark(document, "questions"), err=True)
    except KeyboardInterrupt:
        return
    raise PlatformError("the DNS server has stopped")


def line_of(packet: JsonObject) -> str:
    """A packet in one line."""
    time = datetime.fromtimestamp(packet["at"], UTC).strftime("%H:%M:%S.%f")[:-3]
    parts = [time, ends(packet), f"{packet['size']} bytes", f"{packet['reason']}: {packet['words']}"]
    parts += [f"{name} {packet[name]}" for name in ("client", "tier") if packet[name]]
    parts += [f"to {packet['pool']}/{packet['server']}"] if packet["server"] else []
    parts += [f"dscp {packet['dscp']}"] if packet["dscp"] is not None else []
    parts += [f"held {1000 * packet['delay']:.0f} ms"] if packet["delay"] else []
    return ", ".join(parts)


def _remark(document: JsonObject, what: str = "packets") -> str:
    if "watching" in document:
        return "watching; Ctrl-C ends it"
    return f"({document['lost'] + document['unseen']} {what} not shown)"
