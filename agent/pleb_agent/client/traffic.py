"""Counting what goes over the network."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Traffic"]


@dataclass
class Traffic:
    """Bytes of bodies in each direction since they were taken last."""

    received: int = 0
    sent: int = 0

    def take(self) -> tuple[int, int]:
        """Return what was received and sent since the last call."""
        taken = self.received, self.sent
        self.received = self.sent = 0
        return taken
