"""Commits to a SQLite file, as the thread that polls it tells them."""

from __future__ import annotations

import queue
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from dnsvip.store.database.file_watch import FileWatch, Replaced


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "site.db"
    change(path, "PRAGMA journal_mode = WAL", "CREATE TABLE state (generation)", "INSERT INTO state VALUES (4)")
    return path


@pytest.fixture
def told(file: Path) -> Iterator[queue.Queue[object]]:
    """What a thread says that watches the file."""
    said = queue.Queue[object]()
    watch = FileWatch(file, 5, said.put)
    watch.start()
    yield said
    watch.stop()
    watch.join(5)
    assert not watch.is_alive()


def change(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def test_generations_are_told_once(file: Path, told: queue.Queue[object]) -> None:
    """Commits that make no generation, such as the reports of nodes, wake nobody."""
    assert told.get(timeout=5) == 4
    change(file, "CREATE TABLE other (n)")
    change(file, "INSERT INTO other VALUES (1)")
    with pytest.raises(queue.Empty):
        told.get(timeout=0.5)
    change(file, "UPDATE state SET generation = 5")
    assert told.get(timeout=5) == 5
    change(file, "UPDATE state SET generation = 4")  # a backup is back
    assert told.get(timeout=5) == 4


def test_another_file(file: Path, told: queue.Queue[object]) -> None:
    """A file in its place ends the watch, as does none at all."""
    assert told.get(timeout=5) == 4
    shutil.copy(file, file.with_suffix(".new"))
    file.with_suffix(".new").replace(file)
    assert isinstance(told.get(timeout=5), Replaced)


def test_a_file_that_goes(file: Path, told: queue.Queue[object]) -> None:
    """Its watch ends with why, and makes no empty one in its place."""
    assert told.get(timeout=5) == 4
    file.unlink()
    assert isinstance(told.get(timeout=5), FileNotFoundError)
    assert not file.exists()


def test_what_cannot_be_read(file: Path, told: queue.Queue[object]) -> None:
    """A damaged generation is told as it is, a missing row as None, a missing table as the driver's error."""
    assert told.get(timeout=5) == 4
    change(file, "UPDATE state SET generation = CAST(x'ff' AS TEXT)")
    assert told.get(timeout=5) == "\udcff"
    change(file, "DELETE FROM state")
    assert told.get(timeout=5) is None
    change(file, "DROP TABLE state")
    assert isinstance(told.get(timeout=5), sqlite3.Error)
