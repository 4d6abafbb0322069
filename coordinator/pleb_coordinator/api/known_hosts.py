"""What stays of a host for ever: with it a request is checked before the store is read."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["KnownHost", "KnownHosts"]

_MOST: Final = 100_000
"""Half a kilobyte each."""


class KnownHost(NamedTuple):
    """What a host's row had when it was seen."""

    key: str
    """In hexadecimal; its fingerprint is the key's digest, so it never changes."""
    id: int
    account: str


class KnownHosts:
    """Hosts that have signed a request, by project and fingerprint."""

    def __init__(self) -> None:
        self._hosts: dict[tuple[str, str], KnownHost] = {}

    def find(self, project: str, fingerprint: str) -> KnownHost | None:
        """Return what is known of a host; None: it was not seen."""
        return self._hosts.get((project, fingerprint))

    def forget(self, project: str, fingerprint: str) -> None:
        """Let its next request be looked up before its signature is verified."""
        self._hosts.pop((project, fingerprint), None)

    def keep(self, project: str, fingerprint: str, host: KnownHost) -> None:
        """Remember a host that has signed; all are forgotten once there are very many."""
        if len(self._hosts) >= _MOST:
            self._hosts.clear()
        self._hosts[project, fingerprint] = host
