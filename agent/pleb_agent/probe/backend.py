"""What every way of watching has in common.

PlebError
└── CannotRead      this way does not work now; its sentence says why
    ├── NotHere     there is nothing of this kind on this PC
    └── SessionLost what was watched ended or does not answer
"""

from __future__ import annotations

from typing import Final, Protocol

from pleb_shared.errors import PlebError

__all__ = [
    "ANSWER_SECONDS",
    "QUIET_SECONDS",
    "Backend",
    "CannotRead",
    "NotHere",
    "SessionLost",
    "Source",
]

QUIET_SECONDS: Final = 5.0
"""Input after a shorter pause is no news; after a longer one it is told at once."""
ANSWER_SECONDS: Final = 2.0
"""A display server or bus that takes longer to answer counts as lost."""


class CannotRead(PlebError):
    """The session cannot be read in this way."""


class NotHere(CannotRead):
    """There is no session of this kind."""


class SessionLost(CannotRead):
    """The session ended, or its server does not answer."""


class Source(Protocol):
    """Something that tells news through a file descriptor."""

    @property
    def locked(self) -> bool:
        """Whether the screen is locked, as far as this source knows."""

    @property
    def fullscreen(self) -> bool:
        """Whether a window (a film, a game, a talk) fills a screen, as far as it knows."""

    @property
    def in_use(self) -> bool:
        """Whether another user, whose input we cannot see, is at this PC."""

    def fileno(self) -> int:
        """Return what to wait on; -1: this one can only be asked."""

    def take(self) -> None:
        """Take in what has arrived, without waiting.

        Raises:
            SessionLost: the other side is gone.
        """

    def close(self) -> None:
        """Let go of it."""


class Backend(Source, Protocol):
    """A way to learn of the user's input."""

    @property
    def method(self) -> str:
        """The name of the way, for people."""

    def arm(self) -> None:
        """Have the next input told through `fileno`, where that is not so anyway.

        Raises:
            SessionLost: the other side is gone.
        """

    def idle_seconds(self) -> float:
        """Return how long ago the last input was.

        Raises:
            SessionLost: the other side is gone.
        """
