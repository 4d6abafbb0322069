"""What all methods of watching for input have in common.

Each raises `ServiceError`: `ServiceMissing` where there is nothing of its kind to watch,
`ServiceLost` when what it watches has ended or does not answer (`pleb_agent.dbus.stream`).
"""

from __future__ import annotations

from typing import Final, Protocol

__all__ = ["QUIET_SECONDS", "Backend", "PolledBackend", "Source"]

QUIET_SECONDS: Final = 5.0
"""Input after a shorter pause is not reported at once; after a longer one it is."""


class Source(Protocol):
    """Something that signals changes through a file descriptor."""

    @property
    def locked(self) -> bool:
        """Whether the screen is locked, as far as this source knows."""

    @property
    def fullscreen(self) -> bool:
        """Whether a window (a film, a game, a presentation) fills a screen, as far as it knows."""

    @property
    def in_use(self) -> bool:
        """Whether another user, whose input we cannot see, is at this PC."""

    def fileno(self) -> int:
        """Return what to wait on; -1: this one must be polled."""

    def take(self) -> None:
        """Take in what has arrived, without waiting.

        Raises:
            ServiceLost: the other side is gone.
        """

    def close(self) -> None:
        """Close the connection."""


class Backend(Source, Protocol):
    """A method of learning of the user's input."""

    @property
    def method(self) -> str:
        """The name of the method, for people."""

    def arm(self) -> None:
        """Have the next input signalled through `fileno`, where it is not signalled anyway.

        Raises:
            ServiceLost: the other side is gone.
        """

    def idle_seconds(self) -> float:
        """Return how long ago the last input was.

        Raises:
            ServiceLost: the other side is gone.
        """


class PolledBackend:
    """What backends have in common whose system signals nothing."""

    in_use = False

    def fileno(self) -> int:
        """Return that this must be polled."""
        return -1

    def arm(self) -> None:
        """Do nothing: input is not signalled."""

    def close(self) -> None:
        """Do nothing: nothing is open."""
