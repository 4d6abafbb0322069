"""What a sandboxed process must not be able to do, as attempts that are really made.

`python -m pleb_agent.worker.sandbox.attempts WORK_DIR OUTSIDE_DIR` makes each attempt, closes the
sandbox as the worker does, makes each again, and prints both outcomes as JSON. Only an attempt
that worked before and fails after proves a layer.
"""

from __future__ import annotations

import mmap
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_agent.worker.sandbox.confine import confine

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["OUTSIDE_FILE", "Outcome", "attempts"]

OUTSIDE_FILE: Final = "outside"
"""A readable file that the starter of this program puts into OUTSIDE_DIR."""
_MEMORY_BYTES: Final = 64 * 2**20
"""The limit that this process lives under; it tries to take twice that."""


class Outcome(msgspec.Struct, frozen=True):
    """Whether an attempt worked before and after the sandbox was closed, and why not after."""

    attempt: str
    before: bool
    after: bool
    reason: str


def attempts(work_dir: Path, outside: Path) -> dict[str, Callable[[], object]]:
    """Return the attempts by name; each raises OSError or MemoryError where it is denied."""
    return {
        "open a TCP connection": lambda: _socket(socket.SOCK_STREAM),
        "send UDP datagrams": lambda: _socket(socket.SOCK_DGRAM),
        "read files outside": (outside / OUTSIDE_FILE).read_bytes,
        "write files outside": lambda: (outside / "written").write_bytes(b""),
        "change files outside": lambda: (outside / OUTSIDE_FILE).chmod(0o600),
        "leave links": lambda: _leave(work_dir, lambda path: path.symlink_to(outside)),
        "leave pipes": lambda: _leave(work_dir, os.mkfifo),
        "read other processes": Path(f"/proc/{os.getppid()}/cmdline").read_bytes,
        "start programs": lambda: subprocess.run(["true"], check=True),
        "start processes": _fork,
        "signal other processes": lambda: os.kill(os.getppid(), 0),
        "take more memory": _take_memory,
    }


def main() -> None:
    """Print the outcomes."""
    work_dir, outside = map(Path, sys.argv[1:])
    every = attempts(work_dir, outside)
    before = {name: _try(attempt) for name, attempt in every.items()}
    layers = confine(work_dir, _MEMORY_BYTES)
    after = {name: _try(attempt) for name, attempt in every.items()}
    (work_dir / "still-writable").write_bytes(b"")
    outcomes = [Outcome(n, before[n] == "", after[n] == "", after[n]) for n in every]
    sys.stdout.write(msgspec.json.encode({"outcomes": outcomes, "layers": layers}).decode())


def _try(attempt: Callable[[], object]) -> str:
    """Return why the attempt was denied, or nothing if it worked."""
    try:
        attempt()
    except (OSError, MemoryError) as error:
        return str(error) or type(error).__name__
    return ""


def _socket(kind: socket.SocketKind) -> None:
    with socket.socket(socket.AF_INET, kind):
        pass


def _leave(work_dir: Path, make: Callable[[Path], None]) -> None:
    """Leave behind, where the agent will look, what leads it elsewhere or makes it wait."""
    left = work_dir / "left"
    make(left)
    left.unlink()


def _fork() -> None:
    if sys.platform == "win32":
        raise OSError("Windows has no fork")
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def _take_memory() -> None:
    """Map private writable memory, as an allocator does for a big tensor."""
    if sys.platform == "win32":
        raise OSError("Windows limits memory by job objects")
    mmap.mmap(-1, 2 * _MEMORY_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()


if __name__ == "__main__":
    main()
