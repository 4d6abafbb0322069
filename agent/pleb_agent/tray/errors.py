"""What can go wrong in a tray.

PlebError
├── NotRunningError      no agentd answers in this home
├── RefusedError         agentd says no; the sentence is its own
├── BrokenStreamError    what came is not agentd's event stream
├── NoBusError           there is no session bus here
├── NoDisplayError       there is no X display here whose tray could show an icon
└── PngError             an icon's file is damaged
"""

from __future__ import annotations

from pleb_shared.errors import PlebError

__all__ = [
    "BrokenStreamError",
    "NoBusError",
    "NoDisplayError",
    "NotRunningError",
    "PngError",
    "RefusedError",
]


class NotRunningError(PlebError):
    """No agentd answers in this home: start it."""

    exit_code = 7


class RefusedError(PlebError):
    """agentd says no; the sentence is its own."""


class BrokenStreamError(PlebError):
    """What came is not agentd's event stream: connect again."""


class NoBusError(PlebError):
    """There is no session bus here."""


class NoDisplayError(PlebError):
    """There is no X display here whose tray could show an icon."""


class PngError(PlebError):
    """The bytes are no PNG of our kind: install the agent again."""
