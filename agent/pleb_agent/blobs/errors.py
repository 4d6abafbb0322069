"""Errors of sources, in addition to those of the network.

NetworkError
StalledError
"""

from __future__ import annotations

from pleb_system.network_errors import NetworkError

__all__ = ["StalledError"]


class StalledError(NetworkError):
    """A source sends nothing, or next to nothing; another one is asked."""
