"""Who may hold a connection to the decoder: so many in all, and so many of one user of the machine.

Where a user has its share, its own connection that is idle longest goes for the next. Where all places are taken, one
of the user with most goes: a program that opens connections without end crowds out itself. Pure; times in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain


class Place:
    """One connection: its user, when it was last used, whether a question of it is being answered. `end` closes it."""

    __slots__ = ("busy", "end", "used", "user")

    def __init__(self, user: int, used: float, end: Callable[[], None]) -> None:
        self.user, self.used, self.end, self.busy = user, used, end, False


class Places:
    """At most `most` places, of one user `per_user`; one that is not used for `idle` seconds is over."""

    def __init__(self, most: int, per_user: int, idle: float) -> None:
        self.most, self.per_user, self.idle, self.taken = most, per_user, idle, 0
        self._held: dict[int, dict[Place, None]] = {}
        """By user, the one not used for longest first."""

    def enter(self, place: Place) -> bool:
        """Take a place, for which another one may have to go; False where there is none."""
        if (gone := self._in_the_way(place.user)) is not None:
            self.leave(gone)
            gone.end()
        own = self._held.get(place.user, {})
        if len(own) >= self.per_user or self.taken >= self.most:
            return False
        self._held.setdefault(place.user, {})[place] = None
        self.taken += 1
        return True

    def leave(self, place: Place) -> None:
        """A connection is over; one that has left already, or was never let in, changes nothing."""
        own = self._held.get(place.user, {})
        if place not in own:
            return
        del own[place]
        self.taken -= 1
        if not own:
            del self._held[place.user]

    def use(self, place: Place, now: float, *, busy: bool) -> None:
        """A question has come (`busy`), or its answer has been taken."""
        place.used, place.busy = now, busy
        own = self._held.get(place.user, {})
        if place in own:
            del own[place]
            own[place] = None

    def over(self, now: float) -> list[Place]:
        """Those not used for too long, answered or not: their peers send no question or read no answer."""
        return [place for place in self if place.used + self.idle <= now]

    def __iter__(self) -> Iterator[Place]:
        return chain.from_iterable(self._held.values())

    def _in_the_way(self, user: int) -> Place | None:
        """What has to go for another place of a user, if that may have one."""
        own = self._held.get(user, {})
        if len(own) >= self.per_user:
            return _idle(own)
        if self.taken < self.most:
            return None
        crowd = max(self._held.values(), key=len)
        if len(crowd) > len(own) + 1:  # it had more than this user will have: whatever it is doing
            return _idle(crowd) or next(iter(crowd))
        return _idle(own)


def _idle(places: dict[Place, None]) -> Place | None:
    return next((place for place in places if not place.busy), None)
