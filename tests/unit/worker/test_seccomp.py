"""The system call filter, run by a small BPF machine on the calls of both architectures."""

from __future__ import annotations

import errno
import struct

import pytest

from pleb_agent.worker.sandbox.driver import Driver, driver_of
from pleb_agent.worker.sandbox.seccomp import Instruction, filter_program

PID = 4321
ALLOW = 0x7FFF0000
KILL = 0x80000000
EPERM = 0x00050000 | errno.EPERM
ENOSYS = 0x00050000 | errno.ENOSYS
ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
CLONE_THREAD = 0x10000

# x86_64 number, aarch64 number: from the kernel's own tables.
DENIED = {
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "sendto": (44, 206),
    "execve": (59, 221), "execveat": (322, 281), "ptrace": (101, 117), "bpf": (321, 280),
    "io_uring_setup": (425, 425), "process_vm_writev": (311, 271), "fchmodat": (268, 53),
    "mount": (165, 40), "unshare": (272, 97), "setns": (308, 268), "keyctl": (250, 219),
    "memfd_create": (319, 279), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "sched_setscheduler": (144, 119), "setpriority": (141, 140), "pidfd_getfd": (438, 438),
    "sched_setaffinity": (203, 122), "sched_setattr": (314, 274), "ioprio_set": (251, 30),
    "setrlimit": (160, 164), "shmget": (29, 194), "pipe2": (293, 59), "socketpair": (53, 199),
    "eventfd2": (290, 19), "epoll_create1": (291, 20), "timerfd_create": (283, 85),
    "signalfd4": (289, 74), "inotify_add_watch": (254, 27), "splice": (275, 76),
    "vmsplice": (278, 75), "flock": (73, 32), "mlock": (149, 228), "mlock2": (325, 284),
    "remap_file_pages": (216, 234), "truncate": (76, 45), "fallocate": (285, 47),
    "mkdirat": (258, 34), "unlinkat": (263, 35), "renameat2": (316, 276), "linkat": (265, 37),
    "symlinkat": (266, 36), "mknodat": (259, 33), "fchown": (93, 55), "utimensat": (280, 88),
    "setxattr": (188, 5), "seccomp": (317, 277), "landlock_restrict_self": (446, 446),
    "setsid": (112, 157), "setpgid": (109, 154), "timer_create": (222, 107),
    "rt_sigqueueinfo": (129, 138), "tkill": (200, 130), "process_madvise": (440, 440),
    "openat2": (437, 437), "chroot": (161, 51), "capset": (126, 91),
    "open_by_handle_at": (304, 265), "copy_file_range": (326, 285),
}  # fmt: skip
ALLOWED = {
    "read": (0, 63), "write": (1, 64), "openat": (257, 56), "mmap": (9, 222), "futex": (202, 98),
    "fsync": (74, 82), "newfstatat": (262, 79), "exit_group": (231, 94), "brk": (12, 214),
    "sched_yield": (24, 124), "madvise": (28, 233), "munmap": (11, 215), "getrandom": (318, 278),
}  # fmt: skip
MACHINES = pytest.mark.parametrize(("machine", "column"), [("x86_64", 0), ("aarch64", 1)])


def verdict(
    machine: str,
    number: int,
    *arguments: int,
    arch: int | None = None,
    driver: Driver | None = None,
) -> int:
    """Run the filter on one call, as the kernel would."""
    six = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack("<IIQ6Q", number, arch or ARCH[machine], 0, *six)
    program = filter_program(machine, PID, driver)
    accumulator, at = 0, 0
    while True:
        code, if_true, if_false, value = program[at]
        at += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif code == 0x54:
            accumulator &= value
        elif code == 0x06:
            return value
        else:
            holds = {
                0x15: accumulator == value,
                0x35: accumulator >= value,
                0x45: bool(accumulator & value),
            }[code]
            at += if_true if holds else if_false


@MACHINES
def test_what_a_worker_needs_is_allowed(machine: str, column: int) -> None:
    verdicts = {name: verdict(machine, numbers[column]) for name, numbers in ALLOWED.items()}
    assert verdicts == dict.fromkeys(ALLOWED, ALLOW)


@MACHINES
def test_what_it_never_needs_is_denied(machine: str, column: int) -> None:
    verdicts = {name: verdict(machine, numbers[column]) for name, numbers in DENIED.items()}
    assert verdicts == dict.fromkeys(DENIED, EPERM)


@MACHINES
def test_threads_are_allowed_and_processes_are_not(machine: str, column: int) -> None:
    clone, clone3 = (56, 220)[column], 435
    assert verdict(machine, clone, 0x3D0F00 | CLONE_THREAD) == ALLOW
    assert verdict(machine, clone, 17) == EPERM
    assert verdict(machine, clone3) == ENOSYS


@MACHINES
def test_signals_go_to_the_process_itself_only(machine: str, column: int) -> None:
    for number in ((62, 234), (129, 131))[column]:
        assert verdict(machine, number, PID, 6) == ALLOW
        assert verdict(machine, number, PID + 1, 6) == EPERM
        assert verdict(machine, number, 2**64 - 1, 9) == EPERM
        assert verdict(machine, number, PID | 1 << 32, 6) == EPERM


@MACHINES
def test_limits_can_be_read_and_not_set(machine: str, column: int) -> None:
    prlimit = (302, 261)[column]
    assert verdict(machine, prlimit, 0, 7, 0, 1) == ALLOW
    assert verdict(machine, prlimit, 0, 7, 0x7FFF_0000_1000) == EPERM
    assert verdict(machine, prlimit, 0, 7, 0x7FFF_0000_0000) == EPERM


@MACHINES
def test_only_its_own_limits_can_be_read(machine: str, column: int) -> None:
    prlimit = (302, 261)[column]
    assert verdict(machine, prlimit, PID, 7, 0, 1) == ALLOW
    assert verdict(machine, prlimit, PID + 1, 7, 0, 1) == EPERM
    assert verdict(machine, prlimit, PID + 1, 7, 0x7FFF_0000_1000) == EPERM


@MACHINES
def test_nothing_is_typed_into_terminals_and_no_file_gets_an_owner(
    machine: str, column: int
) -> None:
    ioctl = (16, 29)[column]
    assert verdict(machine, ioctl, 2, 0x5401) == ALLOW  # TCGETS: is this a terminal?
    for command in (0x5412, 0x541C, 0x8901, 0x5452, 0x40086602):
        # TIOCSTI, TIOCLINUX, FIOSETOWN, FIOASYNC, FS_IOC_SETFLAGS
        assert verdict(machine, ioctl, 2, command) == EPERM


@MACHINES
def test_memory_that_no_limit_counts_is_denied(machine: str, column: int) -> None:
    mmap, private, anonymous = (9, 222)[column], 0x02, 0x20
    assert verdict(machine, mmap, 0, 2**20, 3, private | anonymous) == ALLOW
    assert verdict(machine, mmap, 0, 2**20, 1, private) == ALLOW  # a library
    assert verdict(machine, mmap, 0, 2**20, 3, private | anonymous | 0x20000) == ALLOW  # a stack
    for flags in (0x01, 0x03, 0x21, 0x08 | anonymous, 0x122, 0x40022):
        # shared, shared and validated, shared memory, droppable, growing down, huge pages
        assert verdict(machine, mmap, 0, 2**20, 3, flags) == EPERM


@MACHINES
def test_files_are_opened_and_never_made_or_emptied(machine: str, column: int) -> None:
    openat, at_cwd = (257, 56)[column], 2**64 - 100
    for flags in (0, 0o2, 0o2000000, 0o1 | 0o2000):  # read, both, close on exec, append
        assert verdict(machine, openat, at_cwd, 1, flags) == ALLOW
    for flags in (0o101, 0o1000, 0o20200002, 0o20000):  # create, truncate, O_TMPFILE, O_ASYNC
        assert verdict(machine, openat, at_cwd, 1, flags) == EPERM
    assert verdict("x86_64", 2, 1, 0o101) == EPERM
    assert verdict("x86_64", 85, 1, 0o600) == EPERM  # creat


@MACHINES
def test_descriptors_signal_notify_and_lock_nothing(machine: str, column: int) -> None:
    fcntl = (72, 25)[column]
    for command in (0, 1, 2, 3, 4, 1030):
        assert verdict(machine, fcntl, 3, command) == ALLOW
    for command in (5, 6, 8, 10, 15, 1024, 1026, 1031, 1033):
        # F_GETLK, F_SETLK, F_SETOWN, F_SETSIG, F_SETOWN_EX, F_SETLEASE, F_NOTIFY, F_SETPIPE_SZ,
        # F_ADD_SEALS
        assert verdict(machine, fcntl, 3, command) == EPERM


@MACHINES
def test_the_tie_to_the_agent_stays(machine: str, column: int) -> None:
    prctl = (157, 167)[column]
    assert verdict(machine, prctl, 15) == ALLOW  # the name of a thread
    for option in (1, 4, 22, 35, 36):
        # PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_MM, PR_SET_CHILD_SUBREAPER
        assert verdict(machine, prctl, option) == EPERM


@MACHINES
def test_what_later_kernels_add_is_not_there(machine: str, column: int) -> None:
    assert verdict(machine, 470) == verdict(machine, 999) == ENOSYS


@MACHINES
def test_calls_of_another_architecture_end_the_process(machine: str, column: int) -> None:
    assert verdict(machine, 0, arch=0x40000003) == KILL  # 32-bit x86


def test_the_x32_calls_do_not_slip_through() -> None:
    assert verdict("x86_64", 0x40000000 | 41) == ENOSYS


def test_an_unknown_architecture_is_not_guessed_at() -> None:
    with pytest.raises(OSError, match="riscv64"):
        filter_program("riscv64", PID)


@MACHINES
def test_jumps_stay_inside_the_program(machine: str, column: int) -> None:
    program: list[Instruction] = filter_program(machine, PID)
    ends = [i + 1 + max(step.if_true, step.if_false) for i, step in enumerate(program[:-1])]
    assert max(ends) < len(program) < 4096
    assert program[-1].value == EPERM


IOCTL, MMAP = (16, 29), (9, 222)
SHARED, PRIVATE, ANONYMOUS, GROWS = 0x1, 0x2, 0x20, 0x100
FOR_DRIVERS = {
    "eventfd2": (290, 19), "epoll_create1": (291, 20), "pipe2": (293, 59), "epoll_ctl": (233, 21),
}  # fmt: skip
COMMANDS = {
    "cuda-0": {0xC020462A: True, 0x30000001: True, 27: True, 0xC0106400: False, 0x4B01: False},
    "rocm-0": {0xC0184B02: True, 0xC0106400: True, 0xC020462A: False, 27: False},
    "xpu-0": {0xC0106400: True, 0x4B01: False, 0xC020462A: False},
}
"""Commands of drivers, and whether that of this card takes them."""
NEVER = (0x8901, 0x8902, 0x5452, 0x5412, 0x540E, 0x8927, 0x4C00)
"""FIOSETOWN, SIOCSPGRP, FIOASYNC, TIOCSTI, TIOCSCTTY, of networks, of loop devices."""


@MACHINES
@pytest.mark.parametrize("device", COMMANDS)
def test_a_card_is_commanded_by_its_drivers_commands_alone(
    machine: str, column: int, device: str
) -> None:
    driver = driver_of(device, [])
    for command, allowed in COMMANDS[device].items():
        found = verdict(machine, IOCTL[column], 3, command, driver=driver)
        assert (found == ALLOW) is allowed, hex(command)
    for command in NEVER:
        assert verdict(machine, IOCTL[column], 3, command, driver=driver) == EPERM, hex(command)
        assert verdict(machine, IOCTL[column], 3, command) == EPERM
    for command in COMMANDS[device]:
        assert verdict(machine, IOCTL[column], 3, command) == EPERM, "not without a card"
    assert verdict(machine, IOCTL[column], 3, 0x5401, driver=driver) == ALLOW  # TCGETS


@MACHINES
def test_a_cards_memory_is_mapped_shared_and_nothing_else(machine: str, column: int) -> None:
    driver = driver_of("cuda-0", [])
    flags = {
        SHARED: True,
        PRIVATE: True,
        PRIVATE | ANONYMOUS: True,
        SHARED | ANONYMOUS: False,
        SHARED | GROWS: False,
        PRIVATE | GROWS: False,
        SHARED | 0x40000: False,
    }
    for value, allowed in flags.items():
        found = verdict(machine, MMAP[column], 0, 4096, 3, value, 3, 0, driver=driver)
        assert (found == ALLOW) is allowed, hex(value)
    assert verdict(machine, MMAP[column], 0, 4096, 3, SHARED, 3, 0) == EPERM


@MACHINES
def test_what_only_a_driver_calls_is_denied_without_one(machine: str, column: int) -> None:
    driver = driver_of("rocm-0", [])
    for name, numbers in FOR_DRIVERS.items():
        assert verdict(machine, numbers[column], driver=driver) == ALLOW, name
        assert verdict(machine, numbers[column]) == EPERM, name
    for name, numbers in DENIED.items():
        if name not in FOR_DRIVERS:
            assert verdict(machine, numbers[column], driver=driver) in {EPERM, ENOSYS}, name


def test_the_processor_has_no_driver_and_a_card_the_files_that_were_found_for_it() -> None:
    assert driver_of("cpu", []) is None
    nodes = ["/dev/nvidia0", "/dev/nvidiactl", "/dev/nvidia-uvm"]
    driver = driver_of("cuda-0", nodes)
    assert driver is not None
    assert [str(node) for node in driver.nodes] == nodes
    assert "/proc/driver/nvidia" in {str(path) for path in driver.readable}
