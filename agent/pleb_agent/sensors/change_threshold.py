"""Which changes of a reading are large enough to wake the agent.

A number counts when it has moved by a step, or across the user's own limit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_agent.core.devices import spare_card_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.core.preferences import Preferences
    from pleb_agent.core.readings import Gpu, Power
    from pleb_agent.sensors.memory import Memory
    from pleb_agent.sensors.temperature import Temperature

__all__ = ["ChangeThreshold", "differs"]

_LOAD_POINTS: Final = 10.0
_CELSIUS: Final = 3.0
_CHARGE_POINTS: Final = 1.0
_MEMORY_SHARE: Final = 1 / 20


class ChangeThreshold:
    """For each kind of reading: whether the step from `old` to `new` is large enough."""

    def __init__(self, preferences: Callable[[], Preferences]) -> None:
        self._preferences = preferences

    def load(self, old: float | None, new: float | None) -> bool:
        """The processors' load, in percent."""
        return _moved(old, new, _LOAD_POINTS, self._preferences().cpu_others_percent)

    def power(self, old: Power, new: Power) -> bool:
        """What feeds the machine, and the charge."""
        limit = self._preferences().battery_percent
        return old.source is not new.source or _moved(
            old.percent, new.percent, _CHARGE_POINTS, limit
        )

    def temperature(self, old: Temperature, new: Temperature) -> bool:
        """The temperature, and how far it is below the critical one."""
        limit = self._preferences().hottest_celsius
        return _moved(old.hottest, new.hottest, _CELSIUS, limit) or _moved(
            old.headroom, new.headroom, _CELSIUS, None
        )

    def memory(self, old: Memory, new: Memory) -> bool:
        """Free memory, and what the worker holds."""
        step = (new.total or 2**30) * _MEMORY_SHARE
        return (
            old.total != new.total
            or _moved(old.available, new.available, step, None)
            or _moved(old.worker, new.worker, step, None)
        )

    def gpus(self, old: tuple[Gpu, ...], new: tuple[Gpu, ...]) -> bool:
        """The graphics processors, one by one."""
        if [gpu.name for gpu in old] != [gpu.name for gpu in new]:
            return True
        preferences = self._preferences()
        return any(
            _gpu_moved(*pair, preferences.gpu_others_percent)
            or _moved(pair[0].celsius, pair[1].celsius, 1.0, preferences.gpu_hottest_celsius)
            for pair in zip(old, new, strict=True)
        )


def differs(old: object, new: object) -> bool:
    """Return whether they differ: every change counts."""
    return old != new


def _gpu_moved(old: Gpu, new: Gpu, limit: float | None) -> bool:
    total = new.memory_total_bytes
    full = None if total is None else total - spare_card_bytes(total)
    step = (total or 2**30) * _MEMORY_SHARE
    return _moved(old.others_percent, new.others_percent, _LOAD_POINTS, limit) or _moved(
        old.memory_used_bytes, new.memory_used_bytes, step, full
    )


def _moved(old: float | None, new: float | None, step: float, limit: float | None) -> bool:
    if old is None or new is None:
        return old is not new
    if abs(new - old) >= step:
        return True
    return limit is not None and ((old > limit) != (new > limit) or (old < limit) != (new < limit))
