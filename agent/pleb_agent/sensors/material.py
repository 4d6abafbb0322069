"""Which changes of the readings a rule could care about: those that are worth waking the agent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pleb_agent.core.preferences import Preferences
    from pleb_agent.core.readings import Gpu, Readings

__all__ = ["is_material"]

_LOAD_POINTS: Final = 10.0
_CELSIUS: Final = 3.0
_CHARGE_POINTS: Final = 1.0
_MEMORY_SHARE: Final = 1 / 20


def is_material(old: Readings, new: Readings, preferences: Preferences) -> bool:
    """Return whether the sensors' part of the readings differs enough.

    A number counts when it has moved by a step, or over the user's own limit, since `old`.
    """
    if _states(old) != _states(new):
        return True
    total = new.memory_total_bytes or 2**30
    pairs = (
        (old.power.percent, new.power.percent, _CHARGE_POINTS, preferences.battery_percent),
        (
            old.cpu_others_percent,
            new.cpu_others_percent,
            _LOAD_POINTS,
            preferences.cpu_others_percent,
        ),
        (old.hottest_celsius, new.hottest_celsius, _CELSIUS, preferences.hottest_celsius),
        (old.critical_headroom_celsius, new.critical_headroom_celsius, _CELSIUS, None),
        (old.memory_available_bytes, new.memory_available_bytes, total * _MEMORY_SHARE, None),
        (old.worker_memory_bytes, new.worker_memory_bytes, total * _MEMORY_SHARE, None),
    )
    return any(_moved(*pair) for pair in pairs) or any(
        _gpu_moved(before, after, preferences)
        for before, after in zip(old.gpus, new.gpus, strict=True)
    )


def _states(readings: Readings) -> tuple[object, ...]:
    """Return what counts however little it changes."""
    return (
        readings.power.source,
        readings.lid_closed,
        readings.suspending,
        readings.shutting_down,
        readings.programs,
        readings.metered,
        readings.memory_total_bytes,
        tuple(gpu.name for gpu in readings.gpus),
    )


def _gpu_moved(old: Gpu, new: Gpu, preferences: Preferences) -> bool:
    limit = preferences.gpu_others_percent
    step = (new.memory_total_bytes or 2**30) * _MEMORY_SHARE
    return _moved(old.others_percent, new.others_percent, _LOAD_POINTS, limit) or _moved(
        old.memory_used_bytes, new.memory_used_bytes, step, None
    )


def _moved(old: float | None, new: float | None, step: float, limit: float | None) -> bool:
    if old is None or new is None:
        return old is not new
    return abs(new - old) >= step or (limit is not None and (old > limit) != (new > limit))
