"""Namespaces: a view of the system in which nothing else exists (Linux, where users may make them).

What is not bound into the new root cannot even be looked at, which Landlock does not prevent; there
is no network, and the process is counted apart from its user's others, so that its threads can be
limited exactly. It needs user namespaces, which some systems deny to programs that they do not know
(Ubuntu from 23.10 on). Sources: user_namespaces(7), mount_namespaces(7), pivot_root(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pleb_agent.worker.sandbox.libc import ARCHITECTURE, mount, prctl, syscall

if TYPE_CHECKING:
    from collections.abc import Collection

    from pleb_agent.worker.sandbox.landlock import FileRules

__all__ = ["enter_namespaces"]

_CLONE_NEWNS: Final = 0x00020000
_CLONE_NEWIPC: Final = 0x08000000
_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWNET: Final = 0x40000000
_ALL: Final = _CLONE_NEWUSER | _CLONE_NEWNS | _CLONE_NEWIPC | _CLONE_NEWNET

_MS_RDONLY: Final = 1
_MS_NOSUID: Final = 2
_MS_NODEV: Final = 4
_MS_REMOUNT: Final = 32
_MS_BIND: Final = 4096
_MS_REC: Final = 16384
_MS_PRIVATE: Final = 1 << 18
_MS_RELATIME: Final = 1 << 21
_ST_RELATIME: Final = 4096
_KEPT_FLAGS: Final = 0b1111 | 1024 | 2048
"""What a remount must repeat (statvfs(3)): read-only, no set-uid, devices, programs, times."""
_MNT_DETACH: Final = 2
_MOST_LINKS: Final = 40

_UNSHARE: Final = {"x86_64": 272, "aarch64": 97}
_PIVOT_ROOT: Final = {"x86_64": 155, "aarch64": 41}
_UMOUNT: Final = {"x86_64": 166, "aarch64": 39}
_CAPSET: Final = {"x86_64": 126, "aarch64": 91}
_CAPABILITY_VERSION: Final = 0x20080522
_PR_CAPBSET_DROP: Final = 24
_CAPABILITIES: Final = 64


@dataclass(frozen=True)
class _Source:
    """A file or directory that stays visible: an open path, which later mounts do not hide."""

    descriptor: int
    path: Path
    """Without links."""
    is_directory: bool
    is_writable: bool


def enter_namespaces(rules: FileRules) -> None:
    """See nothing but the files of `rules` from now on, for good; no network, no capabilities.

    What is writable can be written, all else cannot. Called while the process has one thread.

    Raises:
        OSError: the system does not allow it, and nothing was changed.
    """
    if sys.platform != "linux":
        raise OSError("only Linux has such namespaces")
    if ARCHITECTURE not in _UNSHARE:
        message = f"The system calls of {ARCHITECTURE} are not known."
        raise OSError(message)
    _rehearse(rules)
    _enter(rules)


def _rehearse(rules: FileRules) -> None:
    """Do it in a child first: a system may allow the first step and deny a later one."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _enter(rules)
        except OSError as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        refusal = pipe.read().decode()
    os.waitpid(child, 0)
    if refusal:
        raise OSError(refusal)


def _enter(rules: FileRules) -> None:
    user, group, here = os.geteuid(), os.getegid(), Path.cwd()
    syscall(_UNSHARE[ARCHITECTURE], _ALL)
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")

    links: dict[Path, str] = {}
    sources = _open_sources(rules, links)  # in the new namespace, or they cannot be bound
    root = _mount_point(sources)
    mount("none", "/", "", _MS_REC | _MS_PRIVATE)
    mount("none", str(root), "tmpfs", _MS_NOSUID | _MS_NODEV, "size=1m,mode=755")
    for source in sources:
        place = root / source.path.relative_to("/")
        if source.is_directory:
            place.mkdir(parents=True, exist_ok=True)
        elif not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
        mount(f"/proc/self/fd/{source.descriptor}", str(place), "", _MS_BIND | _MS_REC)
        os.close(source.descriptor)
    for link, target in links.items():
        place = root / link.relative_to("/")
        if not place.is_symlink():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(target)
    _make_read_only(root, {root / s.path.relative_to("/") for s in sources if s.is_writable})

    os.chdir(root)
    syscall(_PIVOT_ROOT[ARCHITECTURE], b".", b".")
    syscall(_UMOUNT[ARCHITECTURE], b".", _MNT_DETACH)
    os.chdir(here if here.exists() else Path("/"))
    _drop_capabilities()


def _open_sources(rules: FileRules, links: dict[Path, str]) -> list[_Source]:
    """Return what stays visible, each once and parents first; fill in the links that lead there."""
    found: dict[Path, bool] = {}
    writable = (*rules.writable, *rules.devices)
    for is_writable, paths in ((False, rules.readable), (True, writable)):
        for path in paths:
            real = _follow(path, links)
            if real.exists():
                found[real] = is_writable
    sources: list[_Source] = []
    for path, is_writable in sorted(found.items()):
        is_covered = any(parent in found and not found[parent] for parent in path.parents)
        if not is_covered or is_writable:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            sources.append(_Source(descriptor, path, path.is_dir(), is_writable))
    return sources


def _follow(path: Path, links: dict[Path, str]) -> Path:
    """Return the path without links; note each link on the way."""
    at, parts, followed = Path("/"), list(path.absolute().parts[1:]), 0
    while parts:
        part = parts.pop(0)
        if part == "..":
            at = at.parent
        elif (at / part).is_symlink():
            followed += 1
            if followed > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
            target = links[at / part] = str((at / part).readlink())
            absolute = target.startswith("/")
            at, parts = (Path("/") if absolute else at), [*Path(target).parts[absolute:], *parts]
        else:
            at /= part
    return at


def _mount_point(sources: Collection[_Source]) -> Path:
    """Return a directory that is apart from all sources; what it holds is hidden from us alone."""
    for name in ("/mnt", "/media", "/srv", "/run", "/opt", "/var", "/tmp", "/home"):  # noqa: S108
        place = Path(name)
        apart = (s.path.is_relative_to(place) or place.is_relative_to(s.path) for s in sources)
        if place.is_dir() and not place.is_symlink() and not any(apart):
            return place
    raise OSError(errno.ENOENT, "there is no directory to mount a new root on")


def _make_read_only(root: Path, writable: Collection[Path]) -> None:
    """Make every mount below `root` read-only but the writable ones, then `root` itself."""
    places: list[Path] = []
    ours: set[str] = set()
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        number, parent, _, _, name = line.split()[:5]
        place = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), name))
        if place == root:
            places, ours = [place], {number}  # earlier ones are those that it hides
        elif parent in ours:
            ours.add(number)
            if place not in writable:
                places.append(place)
    for place in reversed(places):
        kept = os.statvfs(place).f_flag
        flags = (kept & _KEPT_FLAGS) | (_MS_RELATIME if kept & _ST_RELATIME else 0)
        mount("none", str(place), "", flags | _MS_REMOUNT | _MS_BIND | _MS_RDONLY)


def _drop_capabilities() -> None:
    """Give up what the first process of a user namespace may do in it."""
    with suppress(OSError):  # the last one is known by the next being refused
        for number in range(_CAPABILITIES):
            prctl(_PR_CAPBSET_DROP, number)
    header = _CapabilityHeader(_CAPABILITY_VERSION, 0)
    none = _Capabilities()
    syscall(_CAPSET[ARCHITECTURE], ctypes.pointer(header), ctypes.pointer(none))


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Capabilities(ctypes.Structure):
    _fields_ = (("words", ctypes.c_uint32 * 6),)
