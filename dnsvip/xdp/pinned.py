"""A loaded object whose maps outlive the process: each is pinned under a name that holds its form.

    FOLDER/MAP-LAYOUT-ENTRIES           LAYOUT: digest of type, sizes, flags and the types of key and value
    FOLDER/MAP-LAYOUT-ENTRIES-GROUP     GROUP: digest of the forms of all maps that only make sense together
    FOLDER/link, FOLDER/program         the attachment to the interface, and what is attached

A later load takes over every map whose form has not changed, with what is in it, and makes the others new; where
only the number of entries changed, what a map held can be carried over. Nothing is removed before the new program
is in place (`tidy`), so a load that fails leaves everything as it was.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from dnsvip.errors import PlatformError
from dnsvip.xdp.libbpf import KernelRefused
from dnsvip.xdp.maps import NEW, Map
from dnsvip.xdp.objects import Object

LINK, PROGRAM_PIN = "link", "program"
ATTACHED = frozenset({LINK, PROGRAM_PIN})
"""What is no map in a folder."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The maps of a loaded object by name; `taken` are those that lived already, `paths` where all are pinned."""

    folder: Path
    maps: Mapping[str, Map]
    taken: frozenset[str]
    paths: Mapping[str, Path]

    @property
    def unchanged(self) -> bool:
        """Whether every map lived already: a program with the same code is then the same program."""
        return self.taken == self.maps.keys()

    def carry(self, name: str) -> int:
        """Copy into a map that is new what its predecessor of the same layout held, as far as it fits; how much."""
        if name in self.taken:
            return 0
        copied = 0
        for path in self.predecessors(name):
            with Map.pinned(path) as old:
                for key, values in old.items():
                    with suppress(KernelRefused):  # it is there already, or there is no room
                        self.maps[name].put(key, values[0], NEW)
                        copied += 1
        return copied

    def tidy(self) -> None:
        """Remove what earlier loads pinned and this one does not use."""
        kept = {path.name for path in self.paths.values()} | ATTACHED
        for path in self.folder.iterdir():
            if path.name not in kept and path.is_file():
                path.unlink()

    def discard(self) -> None:
        """Remove what this load pinned anew: it is not to be used."""
        for name, path in self.paths.items():
            if name not in self.taken:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Give up the descriptors; what is pinned stays."""
        for each in self.maps.values():
            each.close()

    def predecessors(self, name: str) -> list[Path]:
        """Where earlier maps of the same name and layout are pinned."""
        mine = self.paths[name].name
        layout = "-".join(mine.split("-")[:2])
        return [path for path in self.folder.glob(f"{layout}-*") if path.name != mine]


def load(program: Object, folder: Path, together: Sequence[str] = ()) -> Loaded:
    """Load an open object with its maps pinned under `folder`; raises PlatformError, and then nothing has changed.

    Of the maps `together` all are taken over or none.
    """
    make_folder(folder)
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
                loaded.maps[name].pin(paths[name])
    except KernelRefused:
        loaded.discard()
        raise
    return loaded


def make_folder(folder: Path) -> None:
    """Make a folder for pins that only we may enter; raises PlatformError."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.chmod(folder, 0o700)
    except OSError as error:
        raise PlatformError(f"{folder}: cannot be made: {error.strerror}") from error


def remove_folder(folder: Path) -> bool:
    """Remove a folder and all pins in it; false where there is none."""
    if not folder.exists():
        return False
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    return True


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:12]
