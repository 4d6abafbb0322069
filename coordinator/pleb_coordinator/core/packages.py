"""Packages of the agent, and which of them suits who visits the join page.

A package is known by its file's name, as `installers/` builds it, and by how its bytes begin.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "MOST_PACKAGES",
    "MOST_PACKAGE_BYTES",
    "PACKAGE_NAME",
    "Package",
    "PackageKind",
    "PackageName",
    "System",
    "Visitor",
    "best_first",
    "parse_package_name",
    "visitor_of",
]

MOST_PACKAGES: Final = 100
MOST_PACKAGE_BYTES: Final = 2**30
PACKAGE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]{0,119}")
"""Names that need no quoting in an address or a header."""


class System(StrEnum):
    """What a visitor's browser runs on."""

    DEBIAN = "debian"
    """Debian, Ubuntu and their like."""
    FEDORA = "fedora"
    ARCH = "arch"
    LINUX = "linux"
    """A Linux that does not say which."""
    WINDOWS = "windows"
    MACOS = "macos"
    OTHER = "other"
    """A phone, a tablet, or a browser that does not say: no agent runs there."""


class PackageKind(StrEnum):
    """What a package is installed by."""

    DEB = "deb"
    RPM = "rpm"
    ARCH = "arch"
    ARCHIVE = "archive"
    WINDOWS = "windows"
    MACOS = "macos"

    @property
    def label(self) -> str:
        """The systems that it is for, in words."""
        return _KINDS[self].label

    @property
    def media_type(self) -> str:
        """What browsers are told that it is."""
        return _KINDS[self].media_type

    def begins(self, data: bytes) -> bool:
        """Whether a file that begins with these bytes can be such a package."""
        return data.startswith(_KINDS[self].magics)


@dataclass(frozen=True)
class _Kind:
    label: str
    media_type: str
    magics: tuple[bytes, ...]
    name: re.Pattern[str]
    systems: tuple[System, ...]


_VERSION: Final = r"(?P<version>[0-9][0-9A-Za-z.+~]*)"
_PROCESSOR: Final = r"(?P<processor>amd64|x86_64|arm64|aarch64)"
_UNSIGNED: Final = r"(?P<unsigned>-unsigned)?"
_KINDS: Final[Mapping[PackageKind, _Kind]] = {
    PackageKind.DEB: _Kind(
        "Debian/Ubuntu",
        "application/vnd.debian.binary-package",
        (b"!<arch>\ndebian-binary",),
        re.compile(rf"pleb-agent_{_VERSION}(?:-\d+)?_{_PROCESSOR}{_UNSIGNED}\.deb"),
        (System.DEBIAN, System.LINUX),
    ),
    PackageKind.RPM: _Kind(
        "Fedora/openSUSE",
        "application/x-rpm",
        (b"\xed\xab\xee\xdb",),
        re.compile(rf"pleb-agent-{_VERSION}(?:-\d+)?\.{_PROCESSOR}{_UNSIGNED}\.rpm"),
        (System.FEDORA, System.LINUX),
    ),
    PackageKind.ARCH: _Kind(
        "Arch Linux",
        "application/zstd",
        (b"\x28\xb5\x2f\xfd",),
        re.compile(rf"pleb-agent-{_VERSION}(?:-\d+)?-{_PROCESSOR}{_UNSIGNED}\.pkg\.tar\.zst"),
        (System.ARCH, System.LINUX),
    ),
    PackageKind.ARCHIVE: _Kind(
        "any Linux, without root",
        "application/octet-stream",
        (b"\xfd7zXZ\x00", b"\x1f\x8b"),
        re.compile(rf"pleb-agent-{_VERSION}-linux-{_PROCESSOR}{_UNSIGNED}\.tar\.[gx]z"),
        (System.DEBIAN, System.FEDORA, System.ARCH, System.LINUX),
    ),
    PackageKind.WINDOWS: _Kind(
        "Windows",
        "application/vnd.microsoft.portable-executable",
        (b"MZ",),
        re.compile(rf"pleb-agent-{_VERSION}-windows-setup{_UNSIGNED}\.exe"),
        (System.WINDOWS,),
    ),
    PackageKind.MACOS: _Kind(
        "macOS",
        "application/octet-stream",
        (b"xar!",),
        re.compile(rf"pleb-agent-{_VERSION}-macos(?:-{_PROCESSOR})?{_UNSIGNED}\.pkg"),
        (System.MACOS,),
    ),
}
_PROCESSORS: Final = {"amd64": "x86_64", "aarch64": "arm64"}


@dataclass(frozen=True)
class PackageName:
    """What a package's file name says."""

    kind: PackageKind
    version: str
    processor: str
    """`x86_64`, `arm64`; empty: any."""
    unsigned: bool
    """Whether it says that its publisher did not sign it."""


class Package(msgspec.Struct, frozen=True):
    """A package in the coordinator's `downloads/`."""

    name: str
    kind: PackageKind
    version: str
    processor: str
    size: Annotated[int, msgspec.Meta(ge=1, le=MOST_PACKAGE_BYTES)]
    sha256: str
    added_at: float
    source: str = ""
    """The address that it was fetched from; empty: a file."""
    signed_by: str = ""
    """The fingerprint of the OpenPGP key whose signature was checked; empty: none was."""
    unsigned: bool = False
    """Whether its name says that its publisher did not sign it."""


def parse_package_name(name: str) -> PackageName | None:
    """Return what the name of a package's file says; None: it is not one of an agent."""
    for kind, described in _KINDS.items():
        if found := described.name.fullmatch(name):
            given = found.groupdict().get("processor") or ""
            processor = _PROCESSORS.get(given, given)
            return PackageName(kind, found["version"], processor, bool(found["unsigned"]))
    return None


@dataclass(frozen=True)
class Visitor:
    """What a browser says of the PC that it runs on."""

    system: System
    processor: str = ""
    """`x86_64`, `arm64`; empty: it does not say."""


_PHONES: Final = re.compile(r"Android|iPhone|iPad|Mobile|CrOS")
_LINUXES: Final = (
    (re.compile(r"Ubuntu|Debian|Mint|Pop!_OS", re.IGNORECASE), System.DEBIAN),
    (re.compile(r"Fedora|SUSE|Red Hat|CentOS", re.IGNORECASE), System.FEDORA),
    (re.compile(r"Arch Linux|Manjaro|EndeavourOS", re.IGNORECASE), System.ARCH),
    (re.compile(r"Linux|X11"), System.LINUX),
)
_HINTS: Final = {
    "Windows": System.WINDOWS,
    "macOS": System.MACOS,
    "Linux": System.LINUX,
    "Android": System.OTHER,
    "iOS": System.OTHER,
    "Chrome OS": System.OTHER,
    "Chromium OS": System.OTHER,
}
_MOST_CHARACTERS: Final = 512


def visitor_of(agent: str, platform: str = "") -> Visitor:
    """Return the visitor that a browser's headers describe.

    Args:
        agent: `User-Agent`.
        platform: `Sec-CH-UA-Platform` (W3C User-Agent Client Hints), a quoted word; empty: none.
    """
    agent = agent[:_MOST_CHARACTERS]
    hint = _HINTS.get(platform.strip().strip('"'))
    system = _system_of(agent)
    if hint is not None and not (hint is System.LINUX and system in _OF_LINUX):
        system = hint
    processor = ""
    if re.search(r"x86_64|Win64|x64|amd64", agent):
        processor = "x86_64"
    elif re.search(r"aarch64|arm64", agent, re.IGNORECASE):
        processor = "arm64"
    # Safari and Firefox say "Intel" on every Mac, whatever its processor is.
    return Visitor(system, "" if system is System.MACOS else processor)


_OF_LINUX: Final = {System.DEBIAN, System.FEDORA, System.ARCH, System.LINUX}


def _system_of(agent: str) -> System:
    if _PHONES.search(agent):
        return System.OTHER
    if "Windows NT" in agent:
        return System.WINDOWS
    if "Macintosh" in agent:
        return System.MACOS
    return next((found for words, found in _LINUXES if words.search(agent)), System.OTHER)


def best_first(
    packages: Iterable[Package], visitor: Visitor
) -> tuple[list[Package], list[Package]]:
    """Return the packages that run on the visitor's PC, the best one first, and all others.

    Of each kind and processor only the newest counts. Native packages come before the archive.
    """
    newest: dict[tuple[PackageKind, str], Package] = {}
    for package in sorted(packages, key=lambda found: found.added_at):
        newest[package.kind, package.processor] = package
    kinds = list(PackageKind)
    shown = sorted(newest.values(), key=lambda found: (kinds.index(found.kind), found.processor))

    def suits(package: Package) -> bool:
        right = visitor.system in _KINDS[package.kind].systems
        known = package.processor and visitor.processor
        return right and (not known or package.processor == visitor.processor)

    # A browser that hides its processor runs on the commonest one.
    fitting = sorted(filter(suits, shown), key=lambda found: found.processor == "arm64")
    return fitting, [package for package in shown if package not in fitting]
