"""A demo that was left running: recorded in a file, so that `--stop` finds it."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import psutil

from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["KeptDemo", "end_kept", "find_kept", "keep"]

_STOP_SECONDS: Final = 10.0


class KeptDemo(msgspec.Struct, frozen=True):
    """A demo's folder, its page, and its processes: pid and start time, which identify them."""

    folder: str
    url: str
    processes: list[tuple[int, float]]


def keep(home: Path, folder: Path, url: str, pids: Iterable[int]) -> None:
    """Record a demo that stays running."""
    started = [(pid, psutil.Process(pid).create_time()) for pid in pids if psutil.pid_exists(pid)]
    home.mkdir(parents=True, exist_ok=True)
    kept = KeptDemo(str(folder), url, started)
    _file(home).write_bytes(msgspec.json.encode(kept))


def find_kept(home: Path) -> KeptDemo | None:
    """Return the demo that was left running, if one was."""
    try:
        return msgspec.json.decode(_file(home).read_bytes(), type=KeptDemo)
    except FileNotFoundError:
        return None


def end_kept(home: Path) -> KeptDemo:
    """Stop all its processes, remove its folder, and return what it was.

    Raises:
        InputError: none was left running.
    """
    kept = find_kept(home)
    if kept is None:
        raise InputError("No demo was left running: `pleb-project demo --keep` leaves one.")
    processes = [p for p in (_same(pid, start) for pid, start in kept.processes) if p]
    for process in processes:
        process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=_STOP_SECONDS)
    for process in alive:
        process.kill()
    _remove(Path(kept.folder))
    _file(home).unlink()
    return kept


def _same(pid: int, start: float) -> psutil.Process | None:
    """Return the process if it is the recorded one, not another with its number."""
    try:
        process = psutil.Process(pid)
        return process if abs(process.create_time() - start) < 1 else None
    except psutil.NoSuchProcess:
        return None


def _remove(folder: Path) -> None:
    """Remove a folder that ending processes may still write to."""
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)


def _file(home: Path) -> Path:
    return home / "demo.json"
