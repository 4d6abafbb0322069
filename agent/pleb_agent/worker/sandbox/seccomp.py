"""seccomp: which system calls the process may make from now on (Linux 3.17 and later).

The filter is a classic BPF program over `struct seccomp_data` (nr, arch, instruction pointer,
six 64-bit arguments); it holds for all threads of the process, for good. What is denied answers
EPERM, so that library code gets an ordinary error. Source: seccomp(2), linux/bpf_common.h.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from typing import Final, NamedTuple

from pleb_agent.worker.sandbox.libc import ARCHITECTURE, prctl, syscall
from pleb_agent.worker.sandbox.syscalls import (
    AUDIT_ARCH,
    CLONE,
    CLONE3,
    DENIED,
    IOCTL,
    PRLIMIT,
    SECCOMP,
    SIGNALS,
)

__all__ = ["Instruction", "filter_program", "restrict_calls"]

_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS: accumulator = 32 bits of seccomp_data
_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_AT_LEAST: Final = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_ANY_BIT: Final = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN: Final = 0x06  # BPF_RET | BPF_K

_ALLOW: Final = 0x7FFF0000
_KILL_PROCESS: Final = 0x80000000
_EPERM: Final = 0x00050000 | errno.EPERM
_ENOSYS: Final = 0x00050000 | errno.ENOSYS

_NUMBER: Final = 0
_ARCH: Final = 4
_FIRST_ARGUMENT: Final = 16
_X32_BIT: Final = 0x40000000
_CLONE_THREAD: Final = 0x00010000
_TIOCSTI: Final = 0x5412
_TIOCLINUX: Final = 0x541C

_PR_SET_NO_NEW_PRIVS: Final = 38
_SET_MODE_FILTER: Final = 1
_ALL_THREADS: Final = 1  # SECCOMP_FILTER_FLAG_TSYNC


class Instruction(NamedTuple):
    """`struct sock_filter`: jumps count instructions to skip."""

    code: int
    if_true: int
    if_false: int
    value: int


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def filter_program(architecture: str, pid: int) -> list[Instruction]:
    """Return the filter for process `pid`.

    Raises:
        OSError: the architecture's system calls are not known here.
    """
    if architecture not in DENIED:
        message = f"The system calls of {architecture} are not known."
        raise OSError(message)
    program = [
        _load(_ARCH),
        Instruction(_EQUAL, 1, 0, AUDIT_ARCH[architecture]),
        _return(_KILL_PROCESS),
        _load(_NUMBER),
        Instruction(_AT_LEAST, 0, 1, _X32_BIT),
        _return(_ENOSYS),
    ]
    for number in sorted(DENIED[architecture].values()):
        program += _when(number, [_return(_EPERM)])
    program += _when(CLONE3[architecture], [_return(_ENOSYS)])
    program += _when(CLONE[architecture], _threads_only())
    for number in SIGNALS[architecture]:
        program += _when(number, _argument_is(0, pid))
    program += _when(PRLIMIT[architecture], _argument_is(2, 0))
    program += _when(IOCTL[architecture], _no_typing())
    return [*program, _return(_ALLOW)]


def restrict_calls(pid: int) -> int:
    """Install the filter in all threads of this process, `pid`; returns how many calls it denies.

    Raises:
        OSError: the kernel or the architecture does not allow it; nothing was restricted.
    """
    program = filter_program(ARCHITECTURE, pid)
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    prctl(_PR_SET_NO_NEW_PRIVS, 1)
    address = ctypes.cast(buffer, ctypes.c_void_p)
    attributes = _Program(len(program), address)
    # With TSYNC a positive answer is the id of a thread that could not follow.
    if syscall(SECCOMP[ARCHITECTURE], _SET_MODE_FILTER, _ALL_THREADS, ctypes.pointer(attributes)):
        raise OSError(errno.ESRCH, "A thread could not take the filter")
    return len(DENIED[ARCHITECTURE])


def _when(number: int, then: list[Instruction]) -> list[Instruction]:
    """Run `then`, which returns on every path, if the call has this number."""
    return [Instruction(_EQUAL, 0, len(then), number), *then]


def _threads_only() -> list[Instruction]:
    return [
        _load(_argument(0)),
        Instruction(_ANY_BIT, 0, 1, _CLONE_THREAD),
        _return(_ALLOW),
        _return(_EPERM),
    ]


def _argument_is(index: int, value: int) -> list[Instruction]:
    """Allow the call if its 64-bit argument is `value` (below 2**32)."""
    return [
        _load(_argument(index)),
        Instruction(_EQUAL, 0, 3, value),
        _load(_argument(index) + 4),
        Instruction(_EQUAL, 0, 1, 0),
        _return(_ALLOW),
        _return(_EPERM),
    ]


def _no_typing() -> list[Instruction]:
    return [
        _load(_argument(1)),
        Instruction(_EQUAL, 2, 0, _TIOCSTI),
        Instruction(_EQUAL, 1, 0, _TIOCLINUX),
        _return(_ALLOW),
        _return(_EPERM),
    ]


def _load(offset: int) -> Instruction:
    return Instruction(_LOAD, 0, 0, offset)


def _return(verdict: int) -> Instruction:
    return Instruction(_RETURN, 0, 0, verdict)


def _argument(index: int) -> int:
    """Offset of an argument's low half; both architectures are little-endian."""
    return _FIRST_ARGUMENT + 8 * index
