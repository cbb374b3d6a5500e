"""Imports on a full disk: refused with the disk's name, and nothing has changed."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from sqlalchemy import event

from dnsvip.admin.bulk import transfer
from dnsvip.admin.http import bodies
from tests.admin.conftest import Api

CLIENTS = "".join(json.dumps({"name": f"n{n:05}", "id": 5000 + n, "tier": "gold"}) + "\n" for n in range(1200))
NDJSON = {"Content-Type": "application/x-ndjson"}


async def test_the_disk_of_the_database(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite finds no room: 507, and the site is as before."""
    monkeypatch.setattr(transfer, "SMALL_IMPORT", 1 << 17)  # in this process, whose connections are bounded here
    before = await api.ok("GET", "clients")
    engine = api.store._session.database.engine

    @event.listens_for(engine.sync_engine, "begin")
    def bound(connection: object) -> None:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()  # type: ignore[attr-defined]
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")  # type: ignore[attr-defined]

    answer = await api("POST", "clients/import", data=CLIENTS.encode(), headers=NDJSON)
    event.remove(engine.sync_engine, "begin", bound)
    assert (answer.status, answer.json["type"].rpartition(":")[2]) == (507, "disk-full"), answer.text
    assert f"the disk of {api.folder} is full" in answer.json["detail"]
    await engine.dispose()
    assert await api.ok("GET", "clients") == before
    assert (await api.ok("POST", "clients/import", data=CLIENTS.encode(), headers=NDJSON))["made"] == 1200


async def test_the_disk_of_temporary_files(api: Api, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """There is no room for the body: the same, with the folder of temporary files."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(bodies, "_write", full)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    answer = await api("POST", "clients/import", data=CLIENTS.encode(), headers=NDJSON)
    assert answer.status == 507, answer.text
    assert f"the disk of {tmp_path} is full" in answer.json["detail"]
