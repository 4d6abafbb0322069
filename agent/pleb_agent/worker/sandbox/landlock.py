"""Landlock: which files the process may touch from now on (Linux 5.13 and later).

The rules hold for the calling thread and all that it starts later, so this is called while the
process has one thread. Source: docs.kernel.org/userspace-api/landlock.html; the numbers are the
same on all architectures.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pleb_agent.worker.sandbox.libc import prctl, syscall

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["FileRules", "abi_version", "restrict_files"]

_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_RULE_PATH_BENEATH: Final = 1
_VERSION_FLAG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38

_WRITE_FILE: Final = 1 << 1
_READ_FILE: Final = 1 << 2
_READ_DIR: Final = 1 << 3
_TRUNCATE: Final = 1 << 14
_IOCTL_DEV: Final = 1 << 15
_FILE_RIGHTS: Final = _WRITE_FILE | _READ_FILE | _TRUNCATE
"""Those that make sense for a path that is no directory."""

_RIGHTS_OF_ABI: Final = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many rights, counted from bit 0, each version of the interface knows."""
_NET_RIGHTS: Final = 0b11  # bind and connect TCP, from version 4 on
_SCOPES: Final = 0b11  # abstract Unix sockets and signals, from version 6 on


class _RulesetAttr(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneathAttr(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


@dataclass(frozen=True)
class FileRules:
    """Files and directories, with all beneath them. What is not there is left out.

    In a writable directory the files that are there can be filled, and none can be made, renamed or
    deleted.
    """

    readable: tuple[Path, ...]
    writable: tuple[Path, ...]
    devices: tuple[Path, ...] = ()
    """Device files, which are commanded too."""


def abi_version() -> int:
    """Return the version of Landlock's interface in the running kernel.

    Raises:
        OSError: the kernel has none, or it is switched off.
    """
    return syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG)


def restrict_files(rules: FileRules, newest: int = 99) -> int:
    """Deny every file but those of `rules` to this thread, for good; returns the ABI version.

    Where the kernel can, TCP and signals to other processes are denied too. `newest`: the newest
    version to use, by which a test does what an older kernel can.

    Raises:
        OSError: the kernel cannot, and nothing was restricted.
    """
    version = min(abi_version(), newest)
    rights = (1 << _RIGHTS_OF_ABI.get(version, 16)) - 1
    attributes = _RulesetAttr(
        rights, _NET_RIGHTS if version >= 4 else 0, _SCOPES if version >= 6 else 0
    )
    size = ctypes.sizeof(attributes) if version >= 6 else 16 if version >= 4 else 8
    ruleset = syscall(_CREATE_RULESET, ctypes.pointer(attributes), size, 0)
    try:
        _allow(ruleset, rules.readable, (_READ_FILE | _READ_DIR) & rights)
        _allow(ruleset, rules.writable, (_FILE_RIGHTS | _READ_DIR) & rights)
        _allow(ruleset, rules.devices, (_WRITE_FILE | _READ_FILE | _IOCTL_DEV) & rights)
        prctl(_PR_SET_NO_NEW_PRIVS, 1)
        syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return version


def _allow(ruleset: int, paths: Iterable[Path], rights: int) -> None:
    for path in paths:
        if not path.exists():
            continue
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            allowed = rights if path.is_dir() else rights & (_FILE_RIGHTS | _IOCTL_DEV)
            rule = _PathBeneathAttr(allowed, descriptor)
            syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, ctypes.pointer(rule), 0)
        finally:
            os.close(descriptor)
