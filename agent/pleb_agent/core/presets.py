"""Quiet, balanced, full: tables of partial changes. What a preset does not name stays as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pleb_agent.core.preferences import Preferences
from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CUSTOM", "PRESETS", "Preset", "preset_of", "with_preset"]

CUSTOM: Final = "custom"
"""What `preset_of` calls preferences that are none of the presets."""


@dataclass(frozen=True)
class Preset:
    """Values for some preferences. `cores_share`: of the cores, for `threads`."""

    name: str
    label: str
    help: str
    cores_share: float
    values: Mapping[str, Any]

    def changes(self, cores: int) -> dict[str, Any]:
        """Return the values on a machine with that many cores; at least one core is used."""
        return {"threads": max(1, int(cores * self.cores_share)), **self.values}


_DEFAULTS: Final = msgspec.structs.asdict(Preferences())

_QUIET: Final = Preset(
    "quiet",
    "Quiet",
    "A few cores, a cool and quiet PC, and only long after you left it.",
    cores_share=0.25,
    values={
        "while_in_use": False,
        "idle_minutes": 10.0,
        "on_battery": False,
        "battery_percent": 80,
        "cpu_percent_in_use": 25,
        "cpu_percent_idle": 75,
        "cpu_others_percent": 30,
        "gpu_others_percent": 10,
        "hottest_celsius": 75,
        "pause_on_fullscreen": True,
    },
)
# For a PC that should work whenever it is on: also while it is in use, at half the speed and with
# the lowest priority (the scheduler gives way, so the load of other programs is no reason to
# pause), and on battery, down to where the system itself goes to sleep; the page warns of that
# where there is a battery. Films, games and presentations still come first, as do heat, memory, the
# disk and the user's own pause. Without a session (--headless) nothing else objects, which servers
# and this project's own tests rely on.
_FULL: Final = Preset(
    "full",
    "Full",
    "All cores, also while you use the PC (at half speed) and on battery.",
    cores_share=1.0,
    values={
        "while_in_use": True,
        "idle_minutes": 3.0,
        "on_battery": True,
        "battery_percent": 0,
        "cpu_percent_in_use": 50,
        "cpu_percent_idle": 100,
        "cpu_others_percent": None,
        "gpu_others_percent": None,
        "hottest_celsius": 95,
        "pause_on_fullscreen": True,
    },
)
_BALANCED: Final = Preset(
    "balanced",
    "Balanced",
    "Half the cores, a few minutes after you left the PC, never on battery.",
    cores_share=0.5,
    values={name: _DEFAULTS[name] for name in _FULL.values},
)

PRESETS: Final[Mapping[str, Preset]] = {
    preset.name: preset for preset in (_QUIET, _BALANCED, _FULL)
}
"""All name the same preferences, so that one preset wipes out another."""


def with_preset(preferences: Preferences, name: str, cores: int) -> Preferences:
    """Return the preferences with what the preset names.

    Raises:
        InputError: there is no such preset.
    """
    if name not in PRESETS:
        raise InputError(f"There is no preset {name!r}; take one of {', '.join(PRESETS)}.")
    return msgspec.structs.replace(preferences, **PRESETS[name].changes(cores))


def preset_of(preferences: Preferences, cores: int) -> str:
    """Return the name of the preset that the preferences are equal to, or `CUSTOM`."""
    for name in PRESETS:
        if with_preset(preferences, name, cores) == preferences:
            return name
    return CUSTOM
