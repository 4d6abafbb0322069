"""What a sandboxed process must not be able to do, as attempts that are really made.

`worker.break_out` makes them, before and after the sandbox is closed. No attempt changes anything
that matters: other processes are given the priority that they have.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_agent.core.devices import CPU
from pleb_agent.worker.job import Bounds, LayerState
from pleb_agent.worker.sandbox.confine import LAYERS
from pleb_agent.worker.sandbox.libc import ARCHITECTURE, prctl, syscall

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BOUNDS", "OUTPUT", "OUTSIDE_FILE", "Outcome", "Report", "Trial", "attempts", "try_to"]

OUTSIDE_FILE: Final = "outside"
"""A readable file that the starter of this program puts into the outside directory."""
OUTPUT: Final = "out/unit/checkpoint-0"
"""A file that the starter puts into the folder, for the worker to fill."""
BOUNDS: Final = Bounds(memory_bytes=256 * 2**20, file_bytes=2**20, threads=1)
_UNMAPPED_BYTES: Final = 2**36
"""More than address space is given to anybody; nothing of it is touched."""
_NOT_HERE: Final = {
    "darwin": {"read other processes"},
    "win32": {
        "leave pipes",
        "lock files",
        "read other processes",
        "signal other processes",
        "start processes",
    },
}.get(sys.platform, set[str]())
"""What this system has no way to try: Windows would even take signal 0 for Ctrl-C."""
_MANY_THREADS: Final = 2400
_MANY_FILES: Final = 700

_MAP_GROWSDOWN: Final = 0x100
_MAP_NORESERVE: Final = 0x4000
_F_NOTIFY: Final = 1026
_DN_CREATE: Final = 4
_FIOSETOWN: Final = 0x8901
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_CLONE_NEWUSER: Final = 0x10000000
_SHMGET: Final = {"x86_64": 29, "aarch64": 194}
_SHMCTL: Final = {"x86_64": 31, "aarch64": 195}
_IOPRIO_GET: Final = {"x86_64": 252, "aarch64": 31}
_IOPRIO_SET: Final = {"x86_64": 251, "aarch64": 30}
_UNSHARE: Final = {"x86_64": 272, "aarch64": 97}
_IO_URING_SETUP: Final = 425


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """Where to make the attempts, and which layers to close. The directories exist."""

    folder: str
    """The worker's, with `OUTPUT` in it."""
    outside: str
    """A directory that is not the worker's, with `OUTSIDE_FILE` in it."""
    layers: tuple[str, ...] = LAYERS
    landlock_version: int = 99
    device: str = CPU
    nodes: list[str] = []
    """The device files of its driver."""
    starts: bool = False
    """Start the driver inside, as a worker does."""


class Outcome(msgspec.Struct, frozen=True):
    """Whether an attempt worked before and after the sandbox was closed, and why not after."""

    attempt: str
    before: bool
    after: bool
    reason: str


class Report(msgspec.Struct, frozen=True):
    """What this program prints."""

    outcomes: list[Outcome]
    layers: list[LayerState]
    driver: str = ""
    """Why the device's driver does not start inside; empty: it does, or was not tried."""


def attempts(folder: Path, outside: Path) -> dict[str, Callable[[], object]]:
    """Return the attempts by name; each raises OSError or MemoryError where it is denied.

    What they need in hand is opened here, before the sandbox is closed.
    """
    parent, output = os.getppid(), folder / OUTPUT
    outside_file = outside / OUTSIDE_FILE
    listener = socket.create_server(("127.0.0.1", 0))
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("127.0.0.1", 0))
    kept: dict[str, Callable[[], object]] = {
        "open a TCP connection": lambda: _connect(listener.getsockname()),
        "send UDP datagrams": lambda: _send(receiver.getsockname()),
        "read files outside": outside_file.read_bytes,
        "write files outside": lambda: _overwrite(outside_file),
        "make files outside": lambda: _make(outside, Path.touch),
        "empty files outside": lambda: os.truncate(outside_file, 0),
        "change files outside": lambda: outside_file.chmod(0o600),
        "look at files outside": outside_file.stat,
        "make files": lambda: _make(folder, Path.touch),
        "make directories": lambda: _make(folder, Path.mkdir),
        "leave links": lambda: _make(folder, lambda path: path.symlink_to(outside)),
        "leave pipes": lambda: _make(folder, os.mkfifo),
        "rename its files": lambda: output.rename(output),
        "fill the disk by a long file": lambda: _lengthen(output),
        "hold many files open": _hold_files,
        "lock files": lambda: _lock(output),
        "read other processes": Path(f"/proc/{parent}/cmdline").read_bytes,
        "start programs": lambda: subprocess.run(["true"], check=True),
        "start processes": lambda: _in_child(lambda: None),
        "start a great many threads": _start_threads,
        "signal other processes": lambda: os.kill(parent, 0),
        "take more memory": lambda: _map(
            2 * BOUNDS.memory_bytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        ),
    }
    if sys.platform == "linux":
        kept |= _attempts_on_linux(parent, output)
    if sys.platform == "win32":
        kept["start programs"] = lambda: subprocess.run(["cmd", "/c", "exit"], check=True)
        kept["take more memory"] = lambda: bytearray(2 * BOUNDS.memory_bytes)
    return {name: attempt for name, attempt in kept.items() if name not in _NOT_HERE}


def _attempts_on_linux(parent: int, output: Path) -> dict[str, Callable[[], object]]:
    """Return those that use what only Linux has."""
    reading, _writing = os.pipe()
    one, _other = socket.socketpair()
    directory = os.open(output.parent, os.O_RDONLY | os.O_DIRECTORY)
    anonymous, lazily = mmap.MAP_ANONYMOUS, _MAP_NORESERVE
    return {
        "take shared memory": lambda: _map(_UNMAPPED_BYTES, mmap.MAP_SHARED | anonymous | lazily),
        "take memory as a stack": lambda: _map(
            _UNMAPPED_BYTES, mmap.MAP_PRIVATE | anonymous | lazily | _MAP_GROWSDOWN
        ),
        "take memory by page tables": lambda: _map(
            _UNMAPPED_BYTES, mmap.MAP_PRIVATE | anonymous | lazily, mmap.PROT_READ
        ),
        "take memory by files in memory": lambda: os.close(os.memfd_create("pleb")),
        "take memory by System V": _share_by_system_v,
        "take memory in /dev/shm": lambda: _make(Path("/dev/shm"), Path.touch),  # noqa: S108
        "take memory by pipes": lambda: list(map(os.close, os.pipe())),
        "use io_uring": lambda: os.close(
            syscall(_IO_URING_SETUP, 1, ctypes.pointer(_NoParameters()))
        ),
        "make namespaces": lambda: _in_child(
            lambda: syscall(_UNSHARE[ARCHITECTURE], _CLONE_NEWUSER)
        ),
        "move other processes to other processors": lambda: os.sched_setaffinity(
            parent, os.sched_getaffinity(parent)
        ),
        "change other processes' priority": lambda: os.setpriority(
            os.PRIO_PROCESS, parent, os.getpriority(os.PRIO_PROCESS, parent)
        ),
        "change other processes' scheduler": lambda: os.sched_setscheduler(
            parent, os.sched_getscheduler(parent), os.sched_getparam(parent)
        ),
        "change other processes' disk priority": lambda: syscall(
            _IOPRIO_SET[ARCHITECTURE], 1, parent, syscall(_IOPRIO_GET[ARCHITECTURE], 1, parent)
        ),
        "change other processes' limits": lambda: _limit(parent),
        "outlive the agent": lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),
        "be read by other processes": lambda: prctl(_PR_SET_DUMPABLE, 1),
        "signal others by a file": lambda: _own(reading, parent),
        "signal others by a socket": lambda: _own_socket(one, parent),
        "be notified of a directory": lambda: _notify(directory),
    }


def try_to(attempt: Callable[[], object]) -> str:
    """Return why the attempt was denied, or nothing if it worked."""
    try:
        attempt()
    except (OSError, MemoryError) as error:
        return str(error) or type(error).__name__
    return ""


def _connect(address: tuple[str, int]) -> None:
    socket.create_connection(address, timeout=5).close()


def _send(address: tuple[str, int]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", address)


def _overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"outside")


def _make(directory: Path, make: Callable[[Path], object]) -> None:
    """Leave something behind, which may fill the disk, or lead the agent elsewhere."""
    left = directory / f"left-{os.getpid()}"
    make(left)
    if left.is_dir() and not left.is_symlink():
        left.rmdir()
    else:
        left.unlink()


def _lengthen(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(2 * BOUNDS.file_bytes)
        file.truncate(0)


def _hold_files() -> None:
    held: list[int] = []
    try:
        for _ in range(_MANY_FILES):
            held.append(os.open(os.devnull, os.O_RDONLY))  # noqa: PERF401 - closed in any case
    finally:
        for descriptor in held:
            os.close(descriptor)


def _lock(path: Path) -> None:
    if sys.platform == "win32":
        raise OSError("Windows locks otherwise")
    import fcntl

    with path.open("r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _in_child(act: Callable[[], object]) -> None:
    if sys.platform == "win32":
        raise OSError("Windows has no fork")
    child = os.fork()
    if child == 0:
        os._exit(1 if try_to(act) else 0)
    _, status = os.waitpid(child, 0)
    if status:
        raise OSError("the child was denied it")


def _start_threads() -> None:
    """Start them, and let all end."""
    threading.stack_size(32768)
    end = threading.Event()
    started = []
    try:
        for _ in range(_MANY_THREADS):
            thread = threading.Thread(target=end.wait)
            thread.start()
            started.append(thread)
    except RuntimeError as error:
        raise OSError(str(error)) from error
    finally:
        end.set()
        for thread in started:
            thread.join()
        threading.stack_size(0)


def _map(size: int, flags: int, access: int | None = None) -> None:
    """Map memory without touching it, as an allocator does for a big tensor."""
    if sys.platform == "win32":
        raise OSError("Windows limits memory by job objects")
    both = mmap.PROT_READ | mmap.PROT_WRITE
    mmap.mmap(-1, size, flags=flags, prot=both if access is None else access).close()


def _share_by_system_v() -> None:
    private, create, remove = 0, 0o1600, 0
    number = syscall(_SHMGET[ARCHITECTURE], private, mmap.PAGESIZE, create)
    syscall(_SHMCTL[ARCHITECTURE], number, remove, None)


class _NoParameters(ctypes.Structure):
    """`struct io_uring_params`, all zeros."""

    _fields_ = (("words", ctypes.c_uint32 * 30),)


def _limit(pid: int) -> None:
    if sys.platform != "linux":
        raise OSError("only Linux limits other processes")
    import resource

    now = resource.prlimit(pid, resource.RLIMIT_CORE)
    resource.prlimit(pid, resource.RLIMIT_CORE, now)


def _own(descriptor: int, pid: int) -> None:
    """Let another process get the signals of this descriptor, and take it back."""
    import fcntl

    fcntl.fcntl(descriptor, fcntl.F_SETOWN, pid)
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, 0)


def _own_socket(end: socket.socket, pid: int) -> None:
    import fcntl

    fcntl.ioctl(end, _FIOSETOWN, pid.to_bytes(4, sys.byteorder))
    fcntl.ioctl(end, _FIOSETOWN, bytes(4))


def _notify(directory: int) -> None:
    import fcntl

    fcntl.fcntl(directory, _F_NOTIFY, _DN_CREATE)
    fcntl.fcntl(directory, _F_NOTIFY, 0)
