"""What can go wrong with signed files of our own. None of it harms what is installed.

UpdateError
├── NoAddressError        this build was made without an update address
├── SourceUnreachableError  no connection, or no answer in time: try again later
├── UntrustedSourceError  signatures, versions or dates are not right: nothing is taken
├── NotOfferedError       the repository has no such file for this system
├── BrokenArchiveError    an archive cannot be unpacked safely
└── NoRoomError           the disk is too full
"""

from __future__ import annotations

from pleb_shared.errors import PlebError

__all__ = [
    "BrokenArchiveError",
    "NoAddressError",
    "NoRoomError",
    "NotOfferedError",
    "SourceUnreachableError",
    "UntrustedSourceError",
    "UpdateError",
]


class UpdateError(PlebError):
    """Base."""


class NoAddressError(UpdateError):
    """This build knows no place to get files from."""


class SourceUnreachableError(UpdateError):
    """The repository cannot be reached, or broke off; what arrived is kept for the next try."""

    exit_code = 5


class UntrustedSourceError(UpdateError):
    """What the repository serves is not signed as it must be, is too old, or was tampered with."""

    exit_code = 3


class NotOfferedError(UpdateError):
    """The repository has nothing of this kind for this system."""


class BrokenArchiveError(UpdateError):
    """An archive has members that must not be unpacked, or cannot be read."""


class NoRoomError(UpdateError):
    """There is not enough room on the disk."""
