"""seccomp: which system calls the process may make from now on (Linux 3.17 and later).

The filter is a classic BPF program over `struct seccomp_data` (nr, arch, instruction pointer,
six 64-bit arguments); it holds for all threads of the process, for good. What is denied answers
EPERM, so that library code gets an ordinary error. Source: seccomp(2), linux/bpf_common.h.
Numbers: Linux's arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h
(aarch64). A name that is missing for an architecture does not exist there.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from typing import Final, NamedTuple

from pleb_agent.worker.sandbox.libc import ARCHITECTURE, prctl, syscall

__all__ = [
    "AUDIT_ARCH",
    "CLONE",
    "CLONE3",
    "DENIED",
    "IOCTL",
    "PRLIMIT",
    "SECCOMP",
    "SIGNALS",
    "Instruction",
    "filter_program",
    "restrict_calls",
]

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
    program += _when(
        CLONE[architecture],
        [
            _load(_argument(0)),
            Instruction(_ANY_BIT, 0, 1, _CLONE_THREAD),
            _return(_ALLOW),
            _return(_EPERM),
        ],
    )
    for number in SIGNALS[architecture]:
        program += _when(number, _argument_is(0, pid))
    program += _when(PRLIMIT[architecture], _argument_is(2, 0))
    program += _when(
        IOCTL[architecture],
        [
            _load(_argument(1)),
            Instruction(_EQUAL, 2, 0, _TIOCSTI),
            Instruction(_EQUAL, 1, 0, _TIOCLINUX),
            _return(_ALLOW),
            _return(_EPERM),
        ],
    )
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


def _load(offset: int) -> Instruction:
    return Instruction(_LOAD, 0, 0, offset)


def _return(verdict: int) -> Instruction:
    return Instruction(_RETURN, 0, 0, verdict)


def _argument(index: int) -> int:
    """Offset of an argument's low half; both architectures are little-endian."""
    return _FIRST_ARGUMENT + 8 * index


AUDIT_ARCH: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""What the kernel calls the architecture in `seccomp_data.arch`."""

CLONE: Final = {"x86_64": 56, "aarch64": 220}
"""Allowed with CLONE_THREAD: a thread, not a process."""
CLONE3: Final = {"x86_64": 435, "aarch64": 435}
"""Answers ENOSYS: its flags lie in memory where no filter looks; glibc then takes clone."""
IOCTL: Final = {"x86_64": 16, "aarch64": 29}
"""Allowed but for TIOCSTI and TIOCLINUX, which type into a terminal."""
PRLIMIT: Final = {"x86_64": 302, "aarch64": 261}
"""Allowed for reading: the limits stay as they are."""
SECCOMP: Final = {"x86_64": 317, "aarch64": 277}
SIGNALS: Final[dict[str, tuple[int, ...]]] = {"x86_64": (62, 234), "aarch64": (129, 131)}
"""kill, tgkill: allowed to the process itself."""

_SAME: Final[dict[str, int]] = {
    "pidfd_send_signal": 424, "io_uring_setup": 425, "io_uring_enter": 426,
    "io_uring_register": 427, "open_tree": 428, "move_mount": 429, "fsopen": 430,
    "fsconfig": 431, "fsmount": 432, "fspick": 433, "pidfd_open": 434, "pidfd_getfd": 438,
    "process_madvise": 440, "mount_setattr": 442, "quotactl_fd": 443, "process_mrelease": 448,
    "fchmodat2": 452, "setxattrat": 463, "removexattrat": 466, "open_tree_attr": 467,
    "file_setattr": 469,
}  # fmt: skip

_X86_64: Final[dict[str, int]] = {
    "socket": 41, "connect": 42, "accept": 43, "sendto": 44, "recvfrom": 45, "sendmsg": 46,
    "recvmsg": 47, "shutdown": 48, "bind": 49, "listen": 50, "socketpair": 53, "accept4": 288,
    "recvmmsg": 299, "sendmmsg": 307,
    "fork": 57, "vfork": 58, "execve": 59, "execveat": 322,
    "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312,
    "tkill": 200, "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297,
    "shmget": 29, "shmat": 30, "shmctl": 31, "semget": 64, "semop": 65, "semctl": 66,
    "msgget": 68, "msgsnd": 69, "msgrcv": 70, "msgctl": 71, "semtimedop": 220, "mq_open": 240,
    "mq_unlink": 241,
    "chmod": 90, "fchmod": 91, "chown": 92, "fchown": 93, "lchown": 94, "fchownat": 260,
    "fchmodat": 268, "mknod": 133, "mknodat": 259,
    "link": 86, "linkat": 265, "symlink": 88, "symlinkat": 266,
    "utime": 132, "utimes": 235, "futimesat": 261, "utimensat": 280,
    "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190, "removexattr": 197,
    "lremovexattr": 198, "fremovexattr": 199,
    "setuid": 105, "setgid": 106, "setreuid": 113, "setregid": 114, "setgroups": 116,
    "setresuid": 117, "setresgid": 119, "setfsuid": 122, "setfsgid": 123, "capset": 126,
    "personality": 135, "modify_ldt": 154, "pivot_root": 155, "chroot": 161, "acct": 163,
    "settimeofday": 164, "clock_settime": 227, "adjtimex": 159, "clock_adjtime": 305,
    "mount": 165, "umount2": 166, "swapon": 167, "swapoff": 168, "reboot": 169,
    "sethostname": 170, "setdomainname": 171, "iopl": 172, "ioperm": 173, "init_module": 175,
    "delete_module": 176, "finit_module": 313, "quotactl": 179, "syslog": 103, "vhangup": 153,
    "kexec_load": 246, "kexec_file_load": 320,
    "add_key": 248, "request_key": 249, "keyctl": 250, "unshare": 272, "setns": 308,
    "name_to_handle_at": 303, "open_by_handle_at": 304, "perf_event_open": 298, "bpf": 321,
    "userfaultfd": 323, "memfd_create": 319, "memfd_secret": 447, "fanotify_init": 300,
    "inotify_init": 253, "inotify_add_watch": 254, "inotify_init1": 294, "lookup_dcookie": 212,
    "move_pages": 279, "migrate_pages": 256, "sched_setattr": 314, "sched_setscheduler": 144,
    "sched_setparam": 142, "setpriority": 141, "ioprio_set": 251, "setrlimit": 160,
}  # fmt: skip

_AARCH64: Final[dict[str, int]] = {
    "socket": 198, "socketpair": 199, "bind": 200, "listen": 201, "accept": 202, "connect": 203,
    "sendto": 206, "recvfrom": 207, "shutdown": 210, "sendmsg": 211, "recvmsg": 212,
    "accept4": 242, "recvmmsg": 243, "sendmmsg": 269,
    "execve": 221, "execveat": 281,
    "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272,
    "tkill": 130, "rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240,
    "mq_open": 180, "mq_unlink": 181, "msgget": 186, "msgctl": 187, "msgrcv": 188,
    "msgsnd": 189, "semget": 190, "semctl": 191, "semtimedop": 192, "semop": 193,
    "shmget": 194, "shmctl": 195, "shmat": 196,
    "fchmod": 52, "fchmodat": 53, "fchownat": 54, "fchown": 55, "mknodat": 33,
    "symlinkat": 36, "linkat": 37,
    "utimensat": 88,
    "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "removexattr": 14, "lremovexattr": 15,
    "fremovexattr": 16,
    "setregid": 143, "setgid": 144, "setreuid": 145, "setuid": 146, "setresuid": 147,
    "setresgid": 149, "setfsuid": 151, "setfsgid": 152, "setgroups": 159, "capset": 91,
    "personality": 92, "pivot_root": 41, "chroot": 51, "acct": 89,
    "settimeofday": 170, "clock_settime": 112, "adjtimex": 171, "clock_adjtime": 266,
    "mount": 40, "umount2": 39, "swapon": 224, "swapoff": 225, "reboot": 142,
    "sethostname": 161, "setdomainname": 162, "init_module": 105, "delete_module": 106,
    "finit_module": 273, "quotactl": 60, "syslog": 116, "vhangup": 58,
    "kexec_load": 104, "kexec_file_load": 294,
    "add_key": 217, "request_key": 218, "keyctl": 219, "unshare": 97, "setns": 268,
    "name_to_handle_at": 264, "open_by_handle_at": 265, "perf_event_open": 241, "bpf": 280,
    "userfaultfd": 282, "memfd_create": 279, "memfd_secret": 447, "fanotify_init": 262,
    "inotify_init1": 26, "inotify_add_watch": 27, "lookup_dcookie": 18,
    "move_pages": 239, "migrate_pages": 238, "sched_setattr": 274, "sched_setscheduler": 119,
    "sched_setparam": 118, "setpriority": 140, "ioprio_set": 30, "setrlimit": 164,
}  # fmt: skip

DENIED: Final[dict[str, dict[str, int]]] = {
    "x86_64": _X86_64 | _SAME,
    "aarch64": _AARCH64 | _SAME,
}
"""Network, other programs and processes, IPC, links, other files' attributes, the system itself."""
