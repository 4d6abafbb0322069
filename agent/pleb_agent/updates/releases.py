"""New releases of the agent: found for everybody, installed where the agent updates itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pleb_agent.program.installed import InstallKind, platform_tag
from pleb_agent.updates.errors import NotOfferedError
from pleb_agent.updates.handover import AppFolder
from pleb_agent.updates.offers import AgentFacts, newest_release
from pleb_agent.updates.unpack import install_archive

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.program.installed import Installation
    from pleb_agent.updates.offers import Target
    from pleb_agent.updates.repository import Source

__all__ = ["Release", "Releases"]

_WHO_UPDATES: Final = {
    InstallKind.SOURCE: "update it the way you installed it",
    InstallKind.DEB: "your package manager installs it (apt upgrade)",
    InstallKind.RPM: "your package manager installs it (dnf upgrade)",
    InstallKind.ARCH: "your package manager installs it (pacman -Syu)",
    InstallKind.MACOS: "download and open the new package",
    InstallKind.ARCHIVE: "it can be installed with one click",
    InstallKind.WINDOWS: "it can be installed with one click",
}


@dataclass(frozen=True)
class Release:
    """A newer release. `can_install`: `Releases.install` would install it."""

    version: str
    can_install: bool
    sentence: str
    bytes_total: int


class Releases:
    """Looks for newer releases, and installs them beside this one."""

    def __init__(self, installation: Installation, source: Source) -> None:
        self._installation = installation
        self._source = source
        self._app = AppFolder.of(installation)

    async def check(self) -> Release | None:
        """Return the newest release after this one, or None: this is the newest.

        A version that did not start on this PC is not offered again.

        Raises:
            NoAddressError: this build has no repository.
            UpdateError: the repository cannot be read, or must not be believed.
        """
        target = await self._newest()
        if target is None:
            return None
        version = _version(target)
        who = _WHO_UPDATES[self._installation.kind]
        return Release(
            version,
            self._app is not None,
            f"Version {version} is there ({target.bytes_total >> 20} MB): {who}.",
            target.bytes_total,
        )

    async def install(
        self, on_progress: Callable[[int, int], None] = lambda _done, _total: None
    ) -> str:
        """Fetch, verify and unpack the newest release beside this one; return its version.

        Nothing changes for the running agent. To change over, end it and call
        `handover.hand_over`: the new version becomes the current one when it has started.

        Raises:
            NotOfferedError: there is none, or this installation is updated by somebody else.
            UpdateError: with the reason; nothing that is installed has changed.
        """
        target = await self._newest()
        if target is None or self._app is None:
            who = _WHO_UPDATES[self._installation.kind]
            raise NotOfferedError(
                "This is the newest version."
                if target is None
                else f"This agent is not changed by itself: {who}."
            )
        folder = self._app.version_folder(_version(target))
        if not self._app.is_complete(_version(target)):
            archive = await self._source.download(target, on_progress)
            await install_archive(archive, target, folder)
        return _version(target)

    async def _newest(self) -> Target | None:
        bad = self._app.bad_versions() if self._app is not None else frozenset()
        targets = await self._source.targets()
        return newest_release(targets, platform_tag(), self._installation.version, bad)


def _version(target: Target) -> str:
    return target.facts.version if isinstance(target.facts, AgentFacts) else ""
