"""Loads an object whose maps outlive the process: each is pinned under a name that identifies its definition.

    FOLDER/MAP-LAYOUT-ENTRIES           LAYOUT: digest of type, sizes, flags and the types of key and value
    FOLDER/MAP-LAYOUT-ENTRIES-GROUP     GROUP: digest of the definitions of all maps that only make sense together
    FOLDER/link, FOLDER/program         the attachment to the interface, and the attached program
    FOLDER/unfinished/MAP-...           empty folders: the maps of a load whose program is not in place yet

A later load takes over every map whose definition has not changed, with its contents, and creates the others; where
only the number of entries has changed, the contents can be copied. Nothing is removed before the new program is in
place (`tidy`), so a failed load leaves everything as it was. What a load that was killed has left is removed by the
next one: taken over, it would be a table that nothing was ever carried into.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from dnsvip.errors import PlatformError
from dnsvip.xdp.libbpf import KernelRefused
from dnsvip.xdp.maps import NEW, Map
from dnsvip.xdp.objects import Object, Program

LINK, PROGRAM_PIN = "link", "program"
ATTACHED = frozenset({LINK, PROGRAM_PIN})
"""The files of a folder that are not maps."""
UNFINISHED = "unfinished"


@dataclass(frozen=True, slots=True)
class Loaded:
    """The maps of a loaded object by name; `taken` are those that existed before, `paths` is where each is pinned."""

    folder: Path
    maps: Mapping[str, Map]
    taken: frozenset[str]
    paths: Mapping[str, Path]

    @property
    def unchanged(self) -> bool:
        """Whether every map existed before: a program with the same code is then the same program."""
        return self.taken == self.maps.keys()

    def carry(self, name: str) -> int:
        """Copy the entries of earlier maps of the same layout into a new map, as far as they fit; how many."""
        if name in self.taken:
            return 0
        copied = 0
        for path in self.predecessors(name):
            with Map.pinned(path) as old:
                for key, values in old.items():
                    with suppress(KernelRefused):  # it exists already, or the map is full
                        self.maps[name].put(key, values[0], NEW)
                        copied += 1
        return copied

    def tidy(self) -> None:
        """Remove pins of earlier loads that this one does not use."""
        kept = {path.name for path in self.paths.values()} | ATTACHED
        for path in self.folder.iterdir():
            if path.name not in kept and path.is_file():
                path.unlink()
        _remove_marks(self.folder)

    def discard(self) -> None:
        """Remove the pins that this load created."""
        for name, path in self.paths.items():
            if name not in self.taken:
                path.unlink(missing_ok=True)
        _remove_marks(self.folder)

    def close(self) -> None:
        """Close the descriptors; pins stay."""
        for loaded_map in self.maps.values():
            loaded_map.close()

    def predecessors(self, name: str) -> list[Path]:
        """The pins of earlier maps of the same name and layout."""
        own = self.paths[name].name
        layout = "-".join(own.split("-")[:2])
        return [path for path in self.folder.glob(f"{layout}-*") if path.name != own]


def load(program: Object, folder: Path, together: Sequence[str] = ()) -> Loaded:
    """Load an open object with its maps pinned under `folder`; raises PlatformError, and changes nothing then.

    Either all of the maps `together` are taken over or none.
    """
    make_folder(folder)
    _forget_unfinished(folder)
    names = [name for name in program.maps if "." not in name]  # NAME.rodata and the like belong to one load only
    pins = {name: f"{name}-{_digest(program.layout(name))}-{program.entries(name)}" for name in names}
    group = _digest(" ".join(pins[name] for name in together))
    paths = {name: folder / (f"{pin}-{group}" if name in together else pin) for name, pin in pins.items()}
    taken = set()
    for name, path in paths.items():
        if path.exists():
            with Map.pinned(path) as existing:
                program.reuse(name, existing)
            taken.add(name)
    program.load()
    loaded = Loaded(folder, {name: program.map(name) for name in names}, frozenset(taken), paths)
    try:
        for name in names:
            if name not in taken:
                make_folder(folder / UNFINISHED / paths[name].name)
                loaded.maps[name].pin(paths[name])
    except (KernelRefused, PlatformError):
        loaded.discard()
        raise
    return loaded


def is_map(path: Path) -> bool:
    """Whether this file of a folder is a pinned map."""
    return path.name not in ATTACHED and path.is_file()


def make_folder(folder: Path) -> None:
    """Create a folder for pins that only its owner may enter; raises PlatformError."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.chmod(folder, 0o700)
    except OSError as error:
        raise PlatformError(f"{folder}: cannot be created: {error.strerror}") from error


def remove_folder(folder: Path) -> bool:
    """Remove a folder and all pins in it; false where there is none."""
    if not folder.exists():
        return False
    _remove_marks(folder)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    return True


def _forget_unfinished(folder: Path) -> None:
    """Remove the maps of a load that was killed before its program was in place."""
    made = [path for mark in _marks(folder) if (path := folder / mark.name).exists()]
    if not _uses(folder / PROGRAM_PIN, made):
        for path in made:
            path.unlink()
    _remove_marks(folder)


def _uses(program: Path, maps: Sequence[Path]) -> bool:
    """Whether a pinned program, if there is one, has any of these pinned maps."""
    if not maps or not program.exists():
        return False
    with closing(Program.pinned(program)) as attached, ExitStack() as stack:
        ids = attached.map_ids
        return any(stack.enter_context(Map.pinned(path)).id in ids for path in maps)


def _marks(folder: Path) -> list[Path]:
    return list((folder / UNFINISHED).iterdir()) if (folder / UNFINISHED).exists() else []


def _remove_marks(folder: Path) -> None:
    for mark in _marks(folder):
        mark.rmdir()
    with suppress(FileNotFoundError):
        (folder / UNFINISHED).rmdir()


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:12]
