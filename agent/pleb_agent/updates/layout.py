"""The folder of an agent that updates itself: versions beside each other, one of them current.

    app/
      pleb-agent -> current/pleb-agent      what people and the session start
      current -> versions/0.1.0
      versions/0.1.0/pleb-agent, _internal/
      bad-versions.json                     what did not start on this PC

`current` is moved only to a version that has said that it runs, so whatever happens meanwhile, the
next start finds an agent that works. On Windows the link is a junction, which needs no rights.
"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_system.durable import sync_directory, write_durably

if TYPE_CHECKING:
    from pleb_agent.program.installed import Installation

__all__ = ["PROGRAM", "AppFolder"]

PROGRAM: Final = "pleb-agent.exe" if sys.platform == "win32" else "pleb-agent"


@dataclass(frozen=True)
class AppFolder:
    """Paths in it, and the few changes that are made to it."""

    path: Path

    @staticmethod
    def of(installation: Installation) -> AppFolder | None:
        """Return the folder that this installation runs from; None if it has no such layout."""
        folder = installation.folder
        if folder is None or not installation.kind.updates_itself:
            return None
        return AppFolder(folder.parent.parent) if folder.parent.name == "versions" else None

    @property
    def versions(self) -> Path:
        """Where the versions lie."""
        return self.path / "versions"

    @property
    def current(self) -> Path:
        """The link to the version that is started."""
        return self.path / "current"

    @property
    def _bad(self) -> Path:
        return self.path / "bad-versions.json"

    def version_folder(self, version: str) -> Path:
        """Return a version's folder."""
        return self.versions / version

    def program(self, version: str) -> Path:
        """Return a version's binary."""
        return self.version_folder(version) / PROGRAM

    def is_complete(self, version: str) -> bool:
        """Whether the version is unpacked: its folder got its name only then."""
        return self.program(version).is_file()

    def current_version(self) -> str:
        """Return the version that is started."""
        return Path(os.path.realpath(self.current)).name

    def make_current(self, version: str) -> None:
        """Let the link point to a version; on POSIX in one step that also a power cut respects."""
        beside = self.path / "current.new"
        beside.unlink(missing_ok=True)
        if sys.platform == "win32":
            import _winapi

            if self.current.exists():
                self.current.rmdir()
            _winapi.CreateJunction(str(self.version_folder(version)), str(self.current))
            return
        beside.symlink_to(Path("versions") / version, target_is_directory=True)
        beside.replace(self.current)
        sync_directory(self.path)

    def bad_versions(self) -> frozenset[str]:
        """Return the versions that did not start here."""
        try:
            return frozenset(msgspec.json.decode(self._bad.read_bytes(), type=list[str]))
        except (FileNotFoundError, msgspec.MsgspecError):
            return frozenset()

    def mark_bad(self, version: str) -> None:
        """Remember that a version did not start, and remove it."""
        names = sorted(self.bad_versions() | {version})
        write_durably(self._bad, msgspec.json.encode(names))
        shutil.rmtree(self.version_folder(version), ignore_errors=True)

    def remove_all_but(self, *versions: str) -> None:
        """Remove the other versions, and what is left of broken-off ones."""
        for folder in self.versions.iterdir():
            if folder.name not in versions:
                shutil.rmtree(folder, ignore_errors=True)
