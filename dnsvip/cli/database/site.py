"""`dnsvip apply`: make the database match a site file, in one transaction, after showing the changes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import cast

import click

from dnsvip.cli.database.changes import as_data, headline, lines
from dnsvip.cli.shared.database import user
from dnsvip.cli.shared.show import json_text
from dnsvip.dns.zones.catalog import check_services
from dnsvip.dns.zones.delta import zone_change
from dnsvip.dns.zones.examine import examined_alone
from dnsvip.dns.zones.include import expanded
from dnsvip.dns.zones.zone import serial_warnings
from dnsvip.errors import Conflict, InvalidSite, Problem
from dnsvip.printable import printable
from dnsvip.site import Service, Site, Zone
from dnsvip.site.io.files import included_files, load_node, load_site
from dnsvip.site.node_file import NodeConfig
from dnsvip.site.plan import Change, effects, plan
from dnsvip.site.references import closest
from dnsvip.site.rules import warnings
from dnsvip.store import KeyEncryptionKey, Store, Stored
from dnsvip.store.zones.journal import in_thread

TRIES = 5
"""How often a plan is recomputed after a concurrent change of the site."""

SHOWN = 1000
"""Changes that are printed; `--json` prints every one."""

FILE = click.Path(exists=False, dir_okay=False, path_type=Path)


@click.command()
@click.argument("site_file", metavar="SITE.toml", type=FILE)
@click.option("--config", "node_file", metavar="NODE.toml", type=FILE, required=True, help="The node file.")
@click.option("--dry-run", is_flag=True, help="Show and check what would change; change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print plan and outcome as JSON.")
def apply(site_file: Path, node_file: Path, *, dry_run: bool, as_json: bool) -> None:
    """Make the database match the site file.

    Prints what changes: + made, ~ altered, - removed. Everything is applied in one transaction, or, where
    anything is wrong, nothing (exit code 2). What the API or other commands set is kept.
    """
    node = load_node(node_file)
    site = load_site(site_file)
    try:
        site, notes = _checked(site, site_file.parent)
        generation, changes = asyncio.run(_apply(node, site, dry_run=dry_run))
    except Conflict as error:
        raise Conflict(error.problems, str(site_file)) from None
    except InvalidSite as error:
        raise InvalidSite(error.problems, str(site_file)) from None
    remarks = [*warnings(site), *notes, *effects(changes), *_serials(changes)]
    if as_json:
        _print_json(generation, changes, remarks, applied=bool(changes) and not dry_run)
    else:
        _print(generation, changes, remarks, dry_run=dry_run)


async def _apply(node: NodeConfig, site: Site, *, dry_run: bool) -> tuple[int, tuple[Change, ...]]:
    if dry_run and _is_missing(node):
        return 0, plan(Site(), site, {})
    store = await Store.open(
        node.database, KeyEncryptionKey.of(node, os.environ), differ=in_thread(zone_change), listen=node.database_listen
    )
    try:
        for _ in range(TRIES - 1):
            stored = await store.objects.stored()
            try:
                return await _apply_to(store, stored, site, dry_run=dry_run)
            except Conflict:
                if await store.generation() == stored.generation:
                    raise
        return await _apply_to(store, await store.objects.stored(), site, dry_run=dry_run)
    finally:
        await store.close()


async def _apply_to(store: Store, stored: Stored, site: Site, *, dry_run: bool) -> tuple[int, tuple[Change, ...]]:
    changes = plan(stored.site, site, stored.origins, stored.unreadable)
    actor = f"{user()} (apply)"
    made = await store.objects.make(changes, actor, "site", expected=stored.generation, dry_run=dry_run)
    return made.generation, tuple(made.changes)


def _is_missing(node: NodeConfig) -> bool:
    scheme, _, path = node.database.partition(":///")
    return scheme == "sqlite" and not Path(path).exists()


def _checked(site: Site, folder: Path) -> tuple[Site, list[Problem]]:
    """The site with what its zone files include in place, and what is to be said of its zones; raises InvalidSite."""
    read = included_files(folder)
    inside: dict[str | None, dict[str, Service]] = {}
    for name, service in site.services.items():
        inside.setdefault(closest(name, site.zones), {})[name] = service
    whole = [expanded(zone, read) for zone in site.zones.values()]
    problems = [problem for one in whole for problem in one.problems]
    reports = [examined_alone(one.zone, inside.get(one.zone.name, {}), one.places) for one in whole if not one.problems]
    problems += [problem for report in reports for problem in report.problems]
    site = replace(site, zones={one.zone.name: one.zone for one in whole})
    if problems := problems or check_services(site):
        raise InvalidSite(problems)
    return site, [warning for report in reports for warning in report.warnings]


def _serials(changes: Iterable[Change]) -> list[Problem]:
    zones = (change for change in changes if change.kind == "zone")
    return serial_warnings((cast("Zone | None", change.before), cast("Zone | None", change.after)) for change in zones)


def _print(generation: int, changes: tuple[Change, ...], remarks: list[Problem], *, dry_run: bool) -> None:
    for change in changes[:SHOWN]:
        for line in lines(change):
            click.echo(line)
    if len(changes) > SHOWN:
        click.echo(f"... and {len(changes) - SHOWN} more")
    for remark in remarks:
        click.echo(f"{click.style('warning:', fg='yellow')} {printable(str(remark))}", err=True)
    if not changes:
        click.echo(f"nothing to change (generation {generation})")
    elif dry_run:
        click.echo(f"{headline(changes)}; dry run, nothing applied")
    else:
        click.echo(f"{headline(changes)}; applied as generation {generation}")


def _print_json(generation: int, changes: tuple[Change, ...], remarks: list[Problem], *, applied: bool) -> None:
    outcome = {
        "generation": generation,
        "applied": applied,
        "changes": [as_data(change) for change in changes],
        "warnings": [{"where": remark.where, "message": remark.message} for remark in remarks],
    }
    click.echo(json_text(outcome, 2))
