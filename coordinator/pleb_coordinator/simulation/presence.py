"""When a PC is on and free: days and weeks, and times that nobody can foresee.

Lengths of the times for which PCs are on and off are Weibull-distributed (Javadi et al., The
Failure Trace Archive, 2013), with shapes below one: most are short, a few very long. Only a fifth
to a third of PCs are on at random (Javadi et al. 2011); the others follow days and weeks, which
`Habits.window` adds.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import numpy as np

__all__ = ["HABITS_OF_THE_WORLD", "Habits", "Presence", "Weibull", "Window"]

_HOUR: Final = 3600.0
_DAY: Final = 86_400.0
_SATURDAY: Final = 5
_THURSDAY: Final = 3
"""1 January 1970, where Monday is 0."""
_LONGEST_WINDOW_SECONDS: Final = 4 * _DAY
_WORN_IN_HOURS: Final = 240.0
"""Before the first time that is asked for: else all PCs would be on at the start."""


class Weibull(NamedTuple):
    """A distribution of lengths, in hours; with the shape 1 it is exponential."""

    shape: float
    hours: float

    def draw(self, generator: np.random.Generator) -> float:
        """Return a length in seconds."""
        return float(self.hours * _HOUR * generator.weibull(self.shape))


class Window(NamedTuple):
    """The hours of the day (UTC) in which a PC may be on; an end above 24 is the next morning."""

    start: float
    end: float
    weekend: tuple[float, float]
    """The same on Saturdays and Sundays."""


@dataclass(frozen=True)
class Habits:
    """How a kind of PC comes and goes."""

    up: Weibull
    down: Weibull
    window: Window | None = None
    """None: any time is like any other."""
    spread_hours: float = 0.0
    """By how much the windows of two such PCs differ."""


HABITS_OF_THE_WORLD: Final = (
    (0.15, Habits(Weibull(0.64, 10.86), Weibull(0.63, 9.48))),
    (0.15, Habits(Weibull(0.55, 35.30), Weibull(0.60, 9.34))),
    (
        0.35,
        Habits(
            Weibull(0.45, 4.16),
            Weibull(0.51, 0.74),
            Window(17.0, 24.0, (9.0, 24.0)),
            spread_hours=2.0,
        ),
    ),
    (
        0.35,
        Habits(
            Weibull(0.45, 4.16),
            Weibull(0.51, 0.74),
            Window(17.5, 32.0, (0.0, 24.0)),
            spread_hours=1.0,
        ),
    ),
)
"""Shares of PCs with habits: homes and offices at random, homes in the evening, offices at night.

The interruptions inside the windows are those of a university's desktops.
"""


@dataclass
class Presence:
    """When one PC is on and free; drawn as far as it is asked for."""

    habits: Habits | None
    """None: it is always on."""
    generator: np.random.Generator
    start: float
    """Seconds since 1970 of the first time that matters."""
    _begins: list[float] = field(default_factory=list, init=False)
    _ends: list[float] = field(default_factory=list, init=False)
    _drawn_until: float = field(init=False)
    _shift: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._drawn_until = self.start - _WORN_IN_HOURS * _HOUR
        if self.habits is not None:
            self._shift = float(self.generator.normal(0, self.habits.spread_hours)) * _HOUR

    def on_from(self, at: float) -> float:
        """Return the first time from `at` on at which the PC is on."""
        if self.habits is None:
            return at
        place = self._place(at)
        return max(at, self._begins[place])

    def is_on(self, at: float) -> bool:
        """Whether the PC is on at that time."""
        return self.on_from(at) == at

    def off_at(self, at: float) -> float:
        """Return when the PC that is on at `at` goes off."""
        return float("inf") if self.habits is None else self._ends[self._place(at)]

    def on_since(self, at: float) -> float | None:
        """Return since when a PC that is on at `at` has been on; None: it is always on."""
        return None if self.habits is None else self._begins[self._place(at)]

    def before(self, at: float) -> list[tuple[float, float]]:
        """Return the times on that ended before, from the oldest on."""
        place = 0 if self.habits is None else self._place(at)
        return list(zip(self._begins[:place], self._ends[:place], strict=True))

    def window_end(self, at: float) -> float:
        """Return when the window ends that is open at `at`; infinity: there are no windows."""
        if self.habits is None or self.habits.window is None:
            return float("inf")
        end = at
        for first, last in self._windows(at, at + _LONGEST_WINDOW_SECONDS):
            if first <= end:
                end = max(end, last)
        return end

    def finished(self, at: float, seconds: float) -> float:
        """Return when work of `seconds` is done that begins at `at` and pauses while it is off."""
        if self.habits is None:
            return at + seconds
        place = self._place(at)
        while True:
            begin = max(at, self._begins[place])
            if begin + seconds <= self._ends[place]:
                return begin + seconds
            seconds -= self._ends[place] - begin
            place += 1
            self._draw_until_place(place)

    def on_between(self, first: float, last: float) -> float:
        """Return for how many seconds between two times the PC is on."""
        if self.habits is None:
            return max(0.0, last - first)
        total, place = 0.0, self._place(first)
        while self._begins[place] < last:
            total += min(last, self._ends[place]) - max(first, self._begins[place])
            place += 1
            self._draw_until_place(place)
        return total

    def _place(self, at: float) -> int:
        """Return the place of the first time on that ends after `at`."""
        while not self._ends or self._ends[-1] <= at:
            self._draw()
        return bisect_right(self._ends, at)

    def _draw_until_place(self, place: int) -> None:
        while len(self._ends) <= place:
            self._draw()

    def _draw(self) -> None:
        """Draw a time on and the time off that follows; keep of it what is in the windows."""
        if self.habits is None:
            return
        begin = self._drawn_until
        end = begin + max(1.0, self.habits.up.draw(self.generator))
        self._drawn_until = end + max(1.0, self.habits.down.draw(self.generator))
        for first, last in self._windows(begin, end):
            if self._ends and first <= self._ends[-1]:
                self._ends[-1] = max(last, self._ends[-1])
            else:
                self._begins.append(first)
                self._ends.append(last)

    def _windows(self, begin: float, end: float) -> list[tuple[float, float]]:
        """Return the parts of a time that are in the PC's windows."""
        window = self.habits.window if self.habits is not None else None
        if window is None:
            return [(begin, end)]
        found = []
        for day in range(
            int((begin - self._shift) // _DAY) - 1, int((end - self._shift) // _DAY) + 1
        ):
            weekend = (day + _THURSDAY) % 7 >= _SATURDAY
            hours = window.weekend if weekend else (window.start, window.end)
            midnight = day * _DAY + self._shift
            first = max(begin, midnight + hours[0] * _HOUR)
            last = min(end, midnight + hours[1] * _HOUR)
            if first < last:
                found.append((first, last))
        return found
