"""What this installation is: from source or a package, which version, where updates come from.

A frozen build carries the folder `pleb-build` with `build.json` (`BuildFacts`), `packaged-by` (one
word, an `InstallKind`; a package's own file, so that one build makes all packages) and, if it was
built with an update address, `root.json`: the TUF root that it trusts from then on.
"""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass
from enum import Enum, StrEnum
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import Final, NoReturn

import msgspec

from pleb_agent.program.command import fresh_environment, is_frozen, stable_program
from pleb_shared.errors import PlebError

__all__ = [
    "BUILD_FOLDER",
    "BrokenInstallationError",
    "BuildFacts",
    "Fate",
    "InstallKind",
    "Installation",
    "OwnFiles",
    "platform_tag",
    "python_tag",
    "read_build",
    "read_installation",
    "start_again",
]

BUILD_FOLDER: Final = "pleb-build"
_SYSTEMS: Final = {"win32": "windows", "darwin": "macos"}


class BrokenInstallationError(PlebError):
    """Files of the frozen build are missing or changed."""


class InstallKind(StrEnum):
    """How it was installed, and so who updates it."""

    SOURCE = "source"
    """Not frozen: a wheel, or a source tree; its user updates it."""
    DEB = "deb"
    RPM = "rpm"
    ARCH = "arch"
    ARCHIVE = "archive"
    """In a user's own folder; it updates itself."""
    WINDOWS = "windows"
    """The per-user installer: the layout of an archive; it also updates itself."""
    MACOS = "macos"

    @property
    def updates_itself(self) -> bool:
        """Whether the agent itself installs new releases."""
        return self in {InstallKind.ARCHIVE, InstallKind.WINDOWS}


class BuildFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Facts that a build carries."""

    version: str
    update_url: str = ""
    """Folder of the TUF repository: it holds `metadata/` and `targets/`. Empty: none."""


@dataclass(frozen=True)
class Installation:
    """This installation. `folder` is the one with the binary; None from source."""

    kind: InstallKind
    version: str
    folder: Path | None = None
    update_url: str = ""
    root: bytes = b""
    """The TUF root metadata that the build trusts; empty without an update address."""

    @property
    def has_updates(self) -> bool:
        """Whether it was built with an update address."""
        return bool(self.update_url and self.root)


def platform_tag() -> str:
    """Return the system and the processor, `linux-x86_64` for instance."""
    system = _SYSTEMS.get(sys.platform, sys.platform)
    return f"{system}-{platform.machine()}".lower()


def python_tag() -> str:
    """Return the Python that extension modules must be built for, `3.11` for instance."""
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def read_installation() -> Installation:
    """Return this installation.

    Raises:
        BrokenInstallationError: the frozen build's own files cannot be read.
    """
    if not is_frozen():
        return Installation(InstallKind.SOURCE, distribution_version("pleb-cluster"))
    return read_build(Path(sys.executable).resolve().parent, Path(getattr(sys, "_MEIPASS", "")))


def read_build(folder: Path, resources: Path) -> Installation:
    """Return what a frozen build in `folder` carries in its `resources`.

    Raises:
        BrokenInstallationError: a file is missing or damaged.
    """
    build = resources / BUILD_FOLDER
    try:
        facts = msgspec.json.decode((build / "build.json").read_bytes(), type=BuildFacts)
        kind = InstallKind((build / "packaged-by").read_text(encoding="ascii").strip())
        root = (build / "root.json").read_bytes() if facts.update_url else b""
    except (OSError, ValueError) as error:
        raise BrokenInstallationError(
            f"The agent's own files in {folder} are damaged ({error}); install it again."
        ) from error
    return Installation(kind, facts.version, folder, facts.update_url, root)


class Fate(Enum):
    """What a package manager did to the program's file."""

    SAME = "same"
    REPLACED = "replaced"
    REMOVED = "removed"


@dataclass(frozen=True)
class OwnFiles:
    """The binary as it was when this process started: device, inode, time and size.

    A frozen build reads its modules from its binary when they are first imported, so a process
    that outlives an upgrade of its package breaks sooner or later: it restarts from the new one.
    """

    program: Path
    mark: tuple[int, int, int, int]

    @classmethod
    def at_start(cls) -> OwnFiles | None:
        """Return the mark of this process's binary; None from source, where nothing is checked."""
        if not is_frozen():
            return None
        program = Path(sys.executable)
        return cls(program, _mark(program))

    def fate(self) -> Fate:
        """Return what happened to it; costs one system call."""
        try:
            return Fate.SAME if _mark(self.program) == self.mark else Fate.REPLACED
        except FileNotFoundError:
            return Fate.REMOVED


def start_again(arguments: list[str]) -> NoReturn:
    """Replace this process by the installed program, with these arguments (POSIX)."""
    command = [*stable_program(), *arguments]
    os.execve(command[0], command, fresh_environment())  # noqa: S606


def _mark(path: Path) -> tuple[int, int, int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size
