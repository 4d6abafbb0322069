"""Whether the network counts bytes: what NetworkManager says over D-Bus (its `Metered`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pleb_agent.sensors.system_bus import SystemBus

__all__ = ["NetworkManagerMetered"]

_YES: Final = frozenset({1, 3})
"""NM_METERED_YES and NM_METERED_GUESS_YES."""
_NO: Final = frozenset({2, 4})


class NetworkManagerMetered:
    """Asks NetworkManager; None where there is none, or where it does not know."""

    def __init__(self, bus: SystemBus) -> None:
        self._bus = bus

    def read(self) -> bool | None:
        """Return whether the connection in use is metered."""
        value = self._bus.property_of(
            "org.freedesktop.NetworkManager",
            "/org/freedesktop/NetworkManager",
            "org.freedesktop.NetworkManager",
            "Metered",
        )
        if value in _YES:
            return True
        return False if value in _NO else None
