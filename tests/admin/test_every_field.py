"""Every field of every kind is set and read back by the API, and by the command line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dnsvip.cli import root
from dnsvip.site.plain import dump
from tests.admin.conftest import Api
from tests.fields import ZONE, Sample, samples, value_at

EACH = pytest.mark.parametrize("sample", samples(), ids=lambda sample: f"{sample.kind.name}-{sample.name}")


@pytest.fixture(autouse=True)
async def with_zone(api: Api) -> None:
    """The zone that the sample of a service is in, and the TSIG key that the sample of a zone is transferred with."""
    await api.ok("PUT", "tsig/spare-key", {"secret": "c2VjcmV0"})
    await api.ok("PUT", "zones/every.test", {"text": ZONE})


async def check(api: Api, sample: Sample, shown: Mapping[str, Any]) -> None:
    """All that the sample sets is shown, secrets excepted, which are stored."""
    stored = await api.store.objects.get(sample.kind.name, sample.name)
    assert stored
    for path in sample.paths:
        seen = dump(stored) if path in sample.kind.secrets else shown
        assert value_at(seen, path) == value_at(sample.body, path), path
    assert not sample.kind.secrets & shown.keys()


KEPT = ("every.test", "every-client")
"""Objects that PUT replaces as they are: a zone of others, and a disabled client, which does not come back enabled."""


@EACH
async def test_by_api(api: Api, sample: Sample) -> None:
    """PUT makes the whole object, PATCH makes it of one with its required fields only, and GET shows every field."""
    path = f"{sample.kind.plural}/{sample.name}".rstrip("/")
    await api.ok("PUT", path, sample.body)
    await check(api, sample, await api.ok("GET", path))
    if sample.kind.named and sample.name not in KEPT:
        assert (await api("DELETE", path)).status == 204
    await api.ok("PUT", path, sample.required)
    await api.ok("PATCH", path, sample.body)
    await check(api, sample, await api.ok("GET", path))


@EACH
async def test_by_command_line(api: Api, sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes an object of the kind, then `set` with every field; `show` shows each."""
    monkeypatch.setenv("DNSVIP_API", f"127.0.0.1:{api.client.server.port}")
    monkeypatch.setenv("DNSVIP_TOKEN", api.token)
    noun, name = sample.kind.plural, [sample.name] if sample.kind.named else []
    (tmp_path / "zone").write_text(ZONE)
    (tmp_path / "secret").write_text("b3RoZXI=")
    making = {
        "zones": ["load", *name, str(tmp_path / "zone")],
        "tsig": ["add", *name, "--secret-file", str(tmp_path / "secret")],
        "clients": ["add", *name, "--id", "9", "--tier", "gold"],
        "classify": ["show"],
    }.get(noun, ["add", *name, *pairs(sample.required)])
    await run(noun, *making)
    await run(noun, "set", *name, *pairs(sample.body))
    await check(api, sample, json.loads(await run(noun, "show", *name, "--json")))


def pairs(body: Mapping[str, Any], head: str = "") -> Iterator[str]:
    """Words KEY=VALUE, tables key by key."""
    for key, value in body.items():
        if isinstance(value, dict) and value:
            yield from pairs(value, f"{head}{key}.")
        else:
            yield f"{head}{key}={value if isinstance(value, str) else json.dumps(value)}"


async def run(*argv: str) -> str:
    """The output of a command, which must succeed; it waits for the API, so it runs beside it."""
    done = await asyncio.to_thread(CliRunner().invoke, root, argv)
    assert done.exit_code == 0, done.output
    return done.output
