"""`dnsvip keys`: the key epochs of the clusters, and rotating them."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dnsvip.cli.shared import show
from dnsvip.cli.shared.api import EPILOG, Api, ApiError, with_api
from dnsvip.cli.shared.nouns import json_option
from dnsvip.errors import StoreError
from dnsvip.site.io.files import load_node
from dnsvip.site.node_file import NodeConfig
from dnsvip.site.plain import JsonObject

if TYPE_CHECKING:
    from dnsvip.store.keys.rewrap import Rewrapped

POLL_SECONDS = 0.2
ACTOR = "command line"
FILE = click.Path(dir_okay=False, path_type=Path)


_FIELD = {
    "near": "expiry field full {}: rotate now",
    "full": "expiry field full since {}, new addresses do not expire: rotate now",
}
"""What is left of the expiry field, where it needs attention."""


def _next(epoch: JsonObject) -> str:
    """What an epoch waits for."""
    parts = [f"stays empty until {show.moment(epoch['until'])}"] if "until" in epoch else []
    if epoch["waiting_for"]:
        parts.append(f"waits for {', '.join(epoch['waiting_for'])}")
    if epoch["retires_at"]:
        parts.append(f"retires {show.moment(epoch['retires_at'])}")
    if epoch["passed_over"]:
        parts.append(f"without {', '.join(epoch['passed_over'])} (silent)")
    if epoch["state"] == "active":
        if epoch.get("rotates_at"):
            parts.append(f"next rotation {show.moment(epoch['rotates_at'])}")
        if epoch.get("expiry_field") in _FIELD:
            parts.append(_FIELD[epoch["expiry_field"]].format(show.moment(epoch["expiry_full_at"])))
    return "; ".join(parts)


COLUMNS: show.Columns = {
    "CLUSTER": lambda epoch: epoch["cluster"],
    "SLOT": lambda epoch: epoch["slot"],
    "STATE": lambda epoch: epoch["state"],
    "KEY": lambda epoch: epoch["key_id"],
    "PUBLISHED": lambda epoch: show.moment(epoch["published_at"]),
    "ACTIVATED": lambda epoch: show.moment(epoch["activated_at"]),
    "NEXT": _next,
}


@click.group(epilog=EPILOG)
def keys() -> None:
    """Key epochs of the clusters, through the HTTP API. No key is ever shown."""


@keys.command("list", epilog=EPILOG)
@click.argument("cluster", required=False)
@json_option
@with_api
def list_(api: Api, cluster: str | None, *, as_json: bool) -> None:
    """List the epochs of CLUSTER, or of all, and the slots that stay empty while addresses of a lost key may live."""
    clusters = [api.get("keys", cluster)] if cluster else api.get("keys")["items"]
    show.rows(COLUMNS, _epochs(clusters) if as_json else [*_epochs(clusters), *_reserved(clusters)], as_json=as_json)


@keys.command(epilog=EPILOG)
@click.argument("cluster")
@click.option("--emergency", is_flag=True, help="Reject every address given out so far, at once.")
@click.option("--wait/--no-wait", default=None, help="Until DNS answers with the new key; by default on a terminal.")
@click.option("--timeout", type=click.FloatRange(0), default=60.0, show_default=True, help="Seconds to wait.")
@json_option
@with_api
def rotate(api: Api, cluster: str, timeout: float, *, emergency: bool, wait: bool | None, as_json: bool) -> None:
    """Publish a new key for CLUSTER.

    It becomes active when every live dispatcher holds it; on a terminal this waits for that. Its predecessor retires
    when no address of it can be in use any more.

    With --emergency, for a key that has leaked, all keys are destroyed and the new one is active at once:
    clients connect again after their next DNS query, within one TTL.
    """
    epoch = api.call("POST", "keys", cluster, "rotate", body={"emergency": True} if emergency else None)
    if wait or (wait is None and sys.stdout.isatty() and not as_json):
        epoch = _wait(api, cluster, epoch, timeout)
    if as_json:
        show.item(epoch, as_json=True)
    else:
        waits = _next(epoch)
        click.echo(f"cluster {cluster}: epoch {epoch['slot']} is {epoch['state']}" + (f", {waits}" if waits else ""))
        for line in _afterwards(api, cluster, epoch, emergency=emergency):
            click.echo(f"  {line}")


@keys.command("roll-cookies", epilog=EPILOG)
@json_option
@with_api
def roll_cookies(api: Api, *, as_json: bool) -> None:
    """Change the secret of DNS cookies on all nodes.

    Cookies made with its predecessor are accepted until the next roll.
    """
    rolled = api.call("POST", "cookies", "roll")
    if as_json:
        show.item(rolled, as_json=True)
    else:
        click.echo(f"DNS cookies are made with the next secret from generation {rolled['generation']} on")


@keys.command(epilog=EPILOG)
@click.option("--config", "node_file", metavar="NODE.toml", required=True, type=FILE, help="The database and its key.")
@click.option("--new-key-file", required=True, type=FILE, help="The new key; made (mode 0600) where it is missing.")
@click.option("--timeout", type=click.FloatRange(0), default=60.0, show_default=True, help="Seconds to wait for nodes.")
@click.option("--anyway", is_flag=True, help="Do not wait for nodes that do not hold the new key.")
def rewrap(node_file: Path, new_key_file: Path, timeout: float, *, anyway: bool) -> None:
    """Change the key-encryption key: wrap every secret in the database with a new one.

    The new key is added to the key file of this node. Add it to those of the other nodes too (a line of its own), or
    have their key_command print both keys: they read it without a restart, and are waited for. A node with DNSVIP_KEY
    must be restarted with both in it. Afterwards the old key can be removed everywhere.

    A secret that cannot be read stays as it is and is named; the exit status is then 1.
    """
    node = load_node(node_file)
    done, key_id = asyncio.run(_rewrap(node, new_key_file, timeout, anyway=anyway))
    click.echo(f"{done.count} secrets are wrapped with the key {key_id}")
    click.echo(f"each node needs only the key in {new_key_file} once `dnsvip nodes list` shows it up to date")
    for name in done.unreadable:
        text = f"the secret of {name} cannot be read and stays as it is"
        click.echo(f"{click.style('warning:', fg='yellow')} {text}", err=True)
    if done.unreadable:
        click.echo(
            "replace tsig/NAME by setting the key, cookie_secret/PLACE by `dnsvip keys roll-cookies`, and others by "
            "`dnsvip keys rotate CLUSTER --emergency`",
            err=True,
        )
        sys.exit(StoreError.exit_code)


async def _rewrap(node: NodeConfig, new_key_file: Path, seconds: float, *, anyway: bool) -> tuple[Rewrapped, str]:
    from dnsvip.store import KeyEncryptionKey, Store  # noqa: PLC0415 - half a second that most commands do not need
    from dnsvip.store.keys.rewrap import without_key  # noqa: PLC0415
    from dnsvip.store.secrets.sources import VARIABLE, add_to_file  # noqa: PLC0415

    old = KeyEncryptionKey.of(node, os.environ, make=False)
    new = KeyEncryptionKey.load(new_key_file, {})
    if not node.key_command and VARIABLE not in os.environ and add_to_file(node.key_file, new_key_file):
        click.echo(f"{node.key_file} holds the new key too")
    store = await Store.open(node.database, old.with_key(new), listen=node.database_listen)
    try:
        await store.keys.announce(new.active_id, ACTOR)
        until = time.monotonic() + seconds
        while not anyway and (missing := without_key(await store.nodes.all(), new.active_id, time.time())):
            if time.monotonic() > until:
                text = "nothing is changed yet: give them the new key and do this again, or leave them behind: --anyway"
                raise StoreError(f"these nodes do not hold the key in {new_key_file}: {', '.join(missing)}; {text}")
            await asyncio.sleep(POLL_SECONDS)
        return await store.keys.rewrap(new, ACTOR), new.active_id
    finally:
        await store.close()


def _epochs(clusters: Iterable[JsonObject]) -> Iterator[JsonObject]:
    for one in clusters:
        head = {key: one.get(key) for key in ("cluster", "rotates_at", "expiry_full_at", "expiry_field")}
        yield from ({**head, **epoch} for epoch in one["epochs"])


def _reserved(clusters: Iterable[JsonObject]) -> Iterator[JsonObject]:
    """The slots that stay empty, as rows among epochs."""
    nothing: JsonObject = {
        "published_at": None,
        "activated_at": None,
        "retires_at": None,
        "waiting_for": [],
        "passed_over": [],
    }
    for one in clusters:
        head = {"cluster": one["cluster"], "state": "reserved", **nothing}
        yield from ({**head, **each} for each in one["reserved"])


def _wait(api: Api, cluster: str, epoch: JsonObject, timeout: float) -> JsonObject:
    """The epoch once it is active, with progress on a terminal; raises ApiError after `timeout` seconds."""
    start = time.monotonic()
    try:
        while epoch["state"] == "published":
            waits = _next(epoch) or "no node moves it on"
            if time.monotonic() - start > timeout:
                raise ApiError(
                    f"cluster {cluster}: epoch {epoch['slot']} is still published: {waits}; it becomes active by itself"
                )
            _progress(f"epoch {epoch['slot']} is published, {waits} ({time.monotonic() - start:.0f} s)")
            time.sleep(POLL_SECONDS)
            same = [each for each in api.get("keys", cluster)["epochs"] if each["generation"] == epoch["generation"]]
            if not same:
                raise ApiError(f"cluster {cluster}: epoch {epoch['slot']} is gone")
            epoch = same[0]
    except KeyboardInterrupt:
        _progress("")
        click.echo(f"the rotation goes on by itself; `dnsvip keys list {cluster}` shows how far it is", err=True)
        raise
    finally:
        _progress("")
    return epoch


def _progress(text: str) -> None:
    """Replace the line of progress, on a terminal only."""
    if sys.stderr.isatty():
        click.echo(f"\r\033[K{text}", nl=False, err=True)


def _afterwards(api: Api, cluster: str, epoch: JsonObject, *, emergency: bool) -> Iterator[str]:
    """What comes next after a rotation, in words."""
    if emergency:
        yield "addresses given out so far are rejected: clients connect again after their next query, within one TTL"
    elif epoch["state"] == "published":
        yield f"it becomes active by itself when all live dispatchers hold it; `dnsvip keys list {cluster}` shows it"
    else:
        yield "DNS answers with it from now on; nothing needs to be done"
        try:
            epochs = api.get("keys", cluster)["epochs"]
        except ApiError:  # a token that may rotate and not read
            return
        for old in epochs:
            if old["state"] == "retiring" and old["retires_at"]:
                when = show.moment(old["retires_at"])
                yield f"addresses of epoch {old['slot']} are accepted until {when}, then it retires by itself"
