"""What one object of a site makes code raise stays with that object: all others are compiled and in force.

`isolate` compiles a snapshot. Where that raises, it finds out by trials which objects make it raise, and puts stand-ins
in their place: objects that do little (which ones, the caller says), or nothing. The result names them. The trials
begin with what has changed since the last success, so that they stay few however large the site is. It knows no kind's
meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeAlias, TypeVar

from dnsvip.errors import DnsvipError, ObjectError, Problem
from dnsvip.site.cow_map import CowMap, difference
from dnsvip.site.plain import SiteObject, collection
from dnsvip.site.registry import COLLECTIONS
from dnsvip.site.snapshot import Snapshot

T = TypeVar("T")

Key: TypeAlias = tuple[str, str]
"""Kind and name of an object."""

StandIns: TypeAlias = Mapping[str, Callable[[Any], Iterable[SiteObject]]]
"""Kind -> what may stand in for an object of it, the best first; after these, nothing. Kinds without an entry are not
tried: the caller does not read them, or isolates them itself."""

_LATE = ("zone", "service", "client")
_ORDER = tuple(sorted(COLLECTIONS, key=_LATE.__contains__))
"""Of two objects that only together make code raise, the one that is later here has a stand-in."""


@dataclass(frozen=True, slots=True)
class Fault:
    """An object that makes code raise, what stands in for it (None: nothing), and why."""

    original: SiteObject
    stand_in: SiteObject | None
    problem: Problem


@dataclass(frozen=True, slots=True)
class Isolated(Generic[T]):
    """What was compiled, and from what: a snapshot with stand-ins for the objects that have `faults`."""

    value: T
    snapshot: Snapshot
    faults: Mapping[Key, Fault] = field(default_factory=dict)

    @property
    def problems(self) -> list[Problem]:
        """One of each object that has a stand-in."""
        return [fault.problem for fault in self.faults.values()]


def isolate(
    snapshot: Snapshot,
    compiled: Callable[[Snapshot], T],
    stand_ins: StandIns,
    before: Isolated[T] | None = None,
    passing: tuple[type[Exception], ...] = (),
) -> Isolated[T]:
    """`compiled` of the snapshot, with stand-ins for the objects that make it raise.

    Its last call is the one whose result is returned. It raises what `compiled` raises even without any object, and
    at once what is of the `passing` classes, which no object is to blame for.
    """
    faults = before.faults if before else {}
    known = {key: fault for key, fault in faults.items() if _object(snapshot, key) is fault.original}
    sound = with_stand_ins(snapshot, {key: fault.stand_in for key, fault in known.items()})
    try:
        return Isolated(compiled(sound), sound, known)
    except passing:
        raise
    except Exception:  # noqa: BLE001 - whatever it is, the search finds whose it is
        return _Search(snapshot, compiled, stand_ins, passing).run(before, known)


def fault_of(where: str, error: Exception) -> Problem:
    """A problem for an error that no object should be able to raise; an ObjectError says itself whose it is."""
    if isinstance(error, ObjectError):
        where, error = error.where, error.error
    if isinstance(error, DnsvipError):
        return Problem(where, str(error)[:500])
    return Problem(where, f"makes this program fail, a fault of the program: {type(error).__name__}: {error}"[:500])


class _Search(Generic[T]):
    """The search for the objects that make `compiled` raise. `_out` has what stands in for an object at present."""

    def __init__(
        self,
        snapshot: Snapshot,
        compiled: Callable[[Snapshot], T],
        stand_ins: StandIns,
        passing: tuple[type[Exception], ...],
    ) -> None:
        self._snapshot, self._compiled, self._stand_ins, self._passing = snapshot, compiled, stand_ins, passing
        self._out: dict[Key, SiteObject | None] = {}
        self._faults: dict[Key, Fault] = {}

    def run(self, before: Isolated[T] | None, known: Mapping[Key, Fault]) -> Isolated[T]:
        """Begin without the objects that have changed, or where that raises too without any, and try the others."""
        everything = [
            (kind, name) for kind in _ORDER if kind in self._stand_ins for name in collection(self._snapshot.site, kind)
        ]
        changed = [] if before is None else list(self._changed(before.snapshot, known))
        if not (changed and self._begin(changed, known)):
            self._begin(everything, {}, last=True)
            changed = everything
        self._admit(changed)
        sound = with_stand_ins(self._snapshot, self._out)
        return Isolated(self._compiled(sound), sound, self._faults)

    def _changed(self, before: Snapshot, known: Mapping[Key, Fault]) -> Iterator[Key]:
        for kind in _ORDER:
            if kind in self._stand_ins:
                pairs = difference(collection(before.site, kind), collection(self._snapshot.site, kind))
                yield from ((kind, name) for name, _, new in pairs if new and (kind, name) not in known)

    def _begin(self, suspects: Sequence[Key], known: Mapping[Key, Fault], *, last: bool = False) -> bool:
        """Whether the rest compiles without the suspects."""
        self._faults = dict(known)
        self._out = {key: fault.stand_in for key, fault in known.items()} | dict.fromkeys(suspects)
        error = self._error(self._out)
        if error is not None and last:
            raise error
        return error is None

    def _admit(self, suspects: Sequence[Key]) -> None:
        """Put these objects in, but for those that make it raise."""
        if not suspects:
            return
        put_in = set(suspects)
        stayed = {key: value for key, value in self._out.items() if key not in put_in}
        error = self._error(stayed)
        if error is None:
            self._out = stayed
        elif len(suspects) == 1:
            self._replace(suspects[0], error)
        else:
            middle = len(suspects) // 2
            self._admit(suspects[:middle])
            self._admit(suspects[middle:])

    def _replace(self, key: Key, error: Exception) -> None:
        """The first stand-in for one object that compiles."""
        original, stand_in = _object(self._snapshot, key), None
        try:
            for candidate in self._stand_ins[key[0]](original):
                if self._error({**self._out, key: candidate}) is None:
                    stand_in = candidate
                    break
        except Exception as another:  # noqa: BLE001 - an object that not even a stand-in can be made for
            error = another
        self._out[key] = stand_in
        self._faults[key] = Fault(original, stand_in, fault_of(".".join(key), error))

    def _error(self, out: Mapping[Key, SiteObject | None]) -> Exception | None:
        try:
            self._compiled(with_stand_ins(self._snapshot, out))
        except self._passing:
            raise
        except Exception as error:  # noqa: BLE001 - as above
            return error
        return None


def _object(snapshot: Snapshot, key: Key) -> Any:
    return collection(snapshot.site, key[0]).get(key[1])


def with_stand_ins(snapshot: Snapshot, out: Mapping[Key, SiteObject | None]) -> Snapshot:
    """The snapshot with other objects in the place of some, without those that are None. A cluster's keys are left out
    with it."""
    if not out:
        return snapshot
    kinds: dict[str, dict[str, SiteObject | None]] = {}
    for (kind, name), instead in out.items():
        kinds.setdefault(kind, {})[name] = instead
    parts: dict[str, Any] = {
        COLLECTIONS[kind]: _patched(collection(snapshot.site, kind), some) for kind, some in kinds.items()
    }
    gone = kinds.get("cluster", {}).keys()
    return replace(
        snapshot,
        site=replace(snapshot.site, **parts),
        keyrings={name: ring for name, ring in snapshot.keyrings.items() if name not in gone},
        masters={name: master for name, master in snapshot.masters.items() if name not in gone},
    )


def _patched(objects: Mapping[str, Any], instead: Mapping[str, SiteObject | None]) -> Mapping[str, Any]:
    put = [(name, item) for name, item in instead.items() if item is not None]
    if isinstance(objects, CowMap):
        return objects.changed(instead, put)
    kept = {name: item for name, item in objects.items() if name not in instead}
    return kept | dict(put)
