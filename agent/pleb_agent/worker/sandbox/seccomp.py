"""seccomp: the system calls that the process may make from now on (Linux 3.17 and later).

The filter is a classic BPF program over `struct seccomp_data` (nr, arch, instruction pointer,
six 64-bit arguments); it holds for all threads of the process, for good. What is not listed here
is denied, also what later kernels add. A denied call answers EPERM, so that library code gets an
ordinary error. Source: seccomp(2), linux/bpf_common.h. Numbers: Linux's
arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h (aarch64); the flags
and commands are the same on both. A name that is missing for an architecture does not exist there.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from pleb_agent.worker.sandbox.libc import ARCHITECTURE, prctl, syscall

if TYPE_CHECKING:
    from pleb_agent.worker.sandbox.driver import Driver

__all__ = ["Instruction", "filter_program", "restrict_calls"]

_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS: accumulator = 32 bits of seccomp_data
_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_AT_LEAST: Final = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_ANY_BIT: Final = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN: Final = 0x06  # BPF_RET | BPF_K
_AND: Final = 0x54  # BPF_ALU | BPF_AND | BPF_K

_ALLOW: Final = 0x7FFF0000
_KILL_PROCESS: Final = 0x80000000
_EPERM: Final = 0x00050000 | errno.EPERM
_ENOSYS: Final = 0x00050000 | errno.ENOSYS

_NUMBER: Final = 0
_ARCH: Final = 4
_FIRST_ARGUMENT: Final = 16
_X32_BIT: Final = 0x40000000

_PR_SET_NO_NEW_PRIVS: Final = 38
_SET_MODE_FILTER: Final = 1
_ALL_THREADS: Final = 1  # SECCOMP_FILTER_FLAG_TSYNC

_CLONE_THREAD: Final = 0x00010000
_MAP_SHARED: Final = 0x1
_MAP_ANONYMOUS: Final = 0x20
_UNCOUNTED_MAPS: Final = 0x1 | 0x8 | 0x100 | 0x40000
"""MAP_SHARED (also part of MAP_SHARED_VALIDATE), MAP_DROPPABLE, MAP_GROWSDOWN, MAP_HUGETLB: memory
that no limit counts, or not as this process's own."""
_CREATING: Final = 0x40 | 0x200 | 0x400000 | 0x2000
"""O_CREAT, O_TRUNC, __O_TMPFILE, O_ASYNC. The agent makes the files that a worker may fill; and
before Landlock's third version the opening of a file for reading could empty it."""
_FILE_COMMANDS: Final = (0, 1, 2, 3, 4, 1030)
"""fcntl: F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC. No F_SETOWN and F_SETSIG,
by which the kernel signals other processes (Landlock's scope stops that only from Linux 6.12 on),
no F_NOTIFY on directories, no leases, locks, pipe sizes and seals."""
_DEVICE_COMMANDS: Final = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
"""ioctl: TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX. No FIOSETOWN, FIOASYNC, and
nothing that types into a terminal."""
_PROCESS_OPTIONS: Final = (15, 16, 51, 64, 0x53564D41)
"""prctl: PR_SET_NAME, PR_GET_NAME, PR_SVE_GET_VL, PR_SME_GET_VL, PR_SET_VMA (names of maps). No
PR_SET_PDEATHSIG: the end of the agent stays the end of the worker. No PR_SET_DUMPABLE."""


class Instruction(NamedTuple):
    """`struct sock_filter`: jumps count instructions to skip."""

    code: int
    if_true: int
    if_false: int
    value: int


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def filter_program(architecture: str, pid: int, driver: Driver | None = None) -> list[Instruction]:
    """Return the filter for process `pid`, with what the driver of a card calls.

    Raises:
        OSError: the architecture's system calls are not known here.
    """
    if architecture not in _AUDIT_ARCH:
        message = f"The system calls of {architecture} are not known."
        raise OSError(message)
    column = list(_AUDIT_ARCH).index(architecture)
    program = [
        _load(_ARCH),
        Instruction(_EQUAL, 1, 0, _AUDIT_ARCH[architecture]),
        _return(_KILL_PROCESS),
        _load(_NUMBER),
        Instruction(_AT_LEAST, 0, 1, _X32_BIT),
        _return(_ENOSYS),
    ]
    for numbers in _ALLOWED.values():
        if (number := numbers[column]) is not None:
            program += _when(number, [_return(_ALLOW)])
    for numbers in (_FOR_DRIVERS if driver is not None else {}).values():
        if (number := numbers[column]) is not None:
            program += _when(number, [_return(_ALLOW)])
    # Not a thread, but a process: denied. The flags of clone3 lie in memory, where no filter
    # looks, so it answers that it is not there, and glibc takes clone.
    thread = [_load(_argument(0)), Instruction(_ANY_BIT, 0, 1, _CLONE_THREAD)]
    checked: dict[str, list[Instruction]] = {
        "clone": [*thread, _return(_ALLOW), _return(_EPERM)],
        "clone3": [_return(_ENOSYS)],
        "mmap": _no_bit_of(3, _UNCOUNTED_MAPS) if driver is None else _maps_of_a_driver(),
        "open": _no_bit_of(1, _CREATING),
        "openat": _no_bit_of(2, _CREATING),
        "fcntl": _argument_in(1, _FILE_COMMANDS),
        "ioctl": _argument_in(1, _DEVICE_COMMANDS) if driver is None else _commands_of(driver),
        "prctl": _argument_in(0, _PROCESS_OPTIONS),
        "kill": _argument_in(0, (pid,)),
        "tgkill": _argument_in(0, (pid,)),
        "prlimit64": _argument_in(0, (0, pid), _argument_in(2, (0,))),
    }
    for name, then in checked.items():
        if (number := _CHECKED[name][column]) is not None:
            program += _when(number, then)
    program += [Instruction(_AT_LEAST, 0, 1, _FIRST_UNKNOWN), _return(_ENOSYS)]
    return [*program, _return(_EPERM)]


def restrict_calls(pid: int, driver: Driver | None = None) -> int:
    """Install the filter in all threads of this process, `pid`; returns how many calls it lists.

    Raises:
        OSError: the kernel or the architecture does not allow it; nothing was restricted.
    """
    program = filter_program(ARCHITECTURE, pid, driver)
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    prctl(_PR_SET_NO_NEW_PRIVS, 1)
    address = ctypes.cast(buffer, ctypes.c_void_p)
    attributes = _Program(len(program), address)
    # With TSYNC a positive answer is the id of a thread that could not follow.
    number = _SECCOMP[ARCHITECTURE]
    if syscall(number, _SET_MODE_FILTER, _ALL_THREADS, ctypes.pointer(attributes)):
        raise OSError(errno.ESRCH, "A thread could not take the filter")
    return len(_ALLOWED) + len(_CHECKED)


def _when(number: int, then: list[Instruction]) -> list[Instruction]:
    """Run `then`, which returns on every path, if the call has this number."""
    return [Instruction(_EQUAL, 0, len(then), number), *then]


def _no_bit_of(index: int, bits: int) -> list[Instruction]:
    """Allow the call if none of these bits is set in the argument's low half."""
    return [
        _load(_argument(index)),
        Instruction(_ANY_BIT, 1, 0, bits),
        _return(_ALLOW),
        _return(_EPERM),
    ]


def _maps_of_a_driver() -> list[Instruction]:
    """Allow private maps as ever, and shared ones of a file: of the card's memory, or outputs.

    Shared memory that belongs to no file stays denied, and so do maps that grow or are dropped.
    """
    return [
        _load(_argument(3)),
        Instruction(_ANY_BIT, 4, 0, _UNCOUNTED_MAPS & ~_MAP_SHARED),
        Instruction(_ANY_BIT, 0, 2, _MAP_SHARED),
        Instruction(_ANY_BIT, 2, 0, _MAP_ANONYMOUS),
        _return(_ALLOW),
        _return(_ALLOW),
        _return(_EPERM),
    ]


def _commands_of(driver: Driver) -> list[Instruction]:
    """Allow the ioctl commands of every worker, and those of the driver's types and list.

    A type is the second byte of a command; no type of a driver is that of files (T, 0x89).
    """
    types: list[Instruction] = []
    for kind in driver.command_types:
        types += [Instruction(_EQUAL, 0, 1, kind << 8), _return(_ALLOW)]
    listed = _argument_in(1, (*_DEVICE_COMMANDS, *driver.commands))
    masked = [_load(_argument(1)), Instruction(_AND, 0, 0, 0xFF00), *types]
    return [*masked, *listed]


def _argument_in(
    index: int, values: tuple[int, ...], then: list[Instruction] | None = None
) -> list[Instruction]:
    """Allow the call, or run `then`, if its 64-bit argument is one of `values` (below 2**32)."""
    compared = [Instruction(_EQUAL, len(values) - i, 0, value) for i, value in enumerate(values)]
    return [
        _load(_argument(index) + 4),
        Instruction(_EQUAL, 0, len(values) + 1, 0),
        _load(_argument(index)),
        *compared,
        _return(_EPERM),
        *(then or [_return(_ALLOW)]),
    ]


def _load(offset: int) -> Instruction:
    return Instruction(_LOAD, 0, 0, offset)


def _return(verdict: int) -> Instruction:
    return Instruction(_RETURN, 0, 0, verdict)


def _argument(index: int) -> int:
    """Offset of an argument's low half; both architectures are little-endian."""
    return _FIRST_ARGUMENT + 8 * index


_AUDIT_ARCH: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""What the kernel calls the architecture in `seccomp_data.arch`; the order of the columns below."""
_SECCOMP: Final = {"x86_64": 317, "aarch64": 277}
_FIRST_UNKNOWN: Final = 470
"""Later calls than those that were looked at answer that they are not there, as on an older kernel,
so that a newer C library does without them."""
_Numbers = tuple[int | None, int | None]
"""A call on x86_64 and on aarch64."""
_ALLOWED: Final[dict[str, _Numbers]] = {
    # Files that are open, and what paths name.
    "read": (0, 63), "write": (1, 64), "readv": (19, 65), "writev": (20, 66), "pread64": (17, 67),
    "pwrite64": (18, 68), "lseek": (8, 62), "close": (3, 57), "fstat": (5, 80), "stat": (4, None),
    "lstat": (6, None), "newfstatat": (262, 79), "statx": (332, 291), "statfs": (137, 43),
    "fstatfs": (138, 44), "access": (21, None), "faccessat": (269, 48), "faccessat2": (439, 439),
    "readlink": (89, None), "readlinkat": (267, 78), "getdents64": (217, 61), "getcwd": (79, 17),
    "fsync": (74, 82), "fdatasync": (75, 83), "ftruncate": (77, 46), "fadvise64": (221, 223),
    "dup": (32, 23), "dup2": (33, None), "dup3": (292, 24), "poll": (7, None), "ppoll": (271, 73),
    "select": (23, None), "pselect6": (270, 72),
    # Memory.
    "munmap": (11, 215), "mprotect": (10, 226), "mremap": (25, 216), "madvise": (28, 233),
    "brk": (12, 214), "membarrier": (324, 283), "mseal": (462, 462),
    # Threads and their locks.
    "futex": (202, 98), "futex_waitv": (449, 449), "futex_wake": (454, 454),
    "futex_wait": (455, 455), "futex_requeue": (456, 456), "set_robust_list": (273, 99),
    "get_robust_list": (274, 100), "rseq": (334, 293), "set_tid_address": (218, 96),
    "exit": (60, 93), "exit_group": (231, 94), "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123), "getcpu": (309, 168), "gettid": (186, 178),
    "getpid": (39, 172), "getppid": (110, 173), "getuid": (102, 174), "geteuid": (107, 175),
    "getgid": (104, 176), "getegid": (108, 177), "restart_syscall": (219, 128),
    # Its own signals.
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    # Time.
    "nanosleep": (35, 101), "clock_nanosleep": (230, 115), "clock_gettime": (228, 113),
    "clock_getres": (229, 114), "gettimeofday": (96, 169), "time": (201, None),
    "times": (100, 153),
    # What the machine is.
    "uname": (63, 160), "sysinfo": (99, 179), "getrandom": (318, 278), "getrlimit": (97, 163),
    "getrusage": (98, 165), "arch_prctl": (158, None),
}  # fmt: skip
_FOR_DRIVERS: Final[dict[str, _Numbers]] = {
    # How a card says that it is done, and on which memory it works best.
    "eventfd2": (290, 19), "epoll_create1": (291, 20), "epoll_ctl": (233, 21),
    "epoll_wait": (232, None), "epoll_pwait": (281, 22), "pipe2": (293, 59),
    "get_mempolicy": (239, 236), "mincore": (27, 232), "sched_get_priority_max": (146, 125),
    "sched_get_priority_min": (147, 126),
}  # fmt: skip
"""What libraries of drivers call beside; see sandbox.md."""
_CHECKED: Final[dict[str, _Numbers]] = {
    "clone": (56, 220), "clone3": (435, 435), "mmap": (9, 222), "open": (2, None),
    "openat": (257, 56), "fcntl": (72, 25), "ioctl": (16, 29), "prctl": (157, 167),
    "kill": (62, 129), "tgkill": (234, 131), "prlimit64": (302, 261),
}  # fmt: skip
"""Allowed with some arguments only."""
