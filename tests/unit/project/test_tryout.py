"""A trial on this PC: it leaves no process and no folder, however it ends."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, ClassVar

import pytest

from pleb_project import tryout
from pleb_project.processes import ChildProcess, Fleet, start_process

if TYPE_CHECKING:
    from pathlib import Path


class InterruptedFleet(Fleet):
    """Starts one real process, then SIGTERM comes, as from a service manager."""

    children: ClassVar[list[ChildProcess]] = []
    folders: ClassVar[list[Path]] = []

    def start_coordinator(self) -> str:
        child = start_process("sleeper", ["sleep", "60"], self.folder / "log")
        self.processes.append(child)
        self.children.append(child)
        self.folders.append(self.folder)
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the signal came too late")


def test_sigterm_stops_the_fleet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tryout, "Fleet", InterruptedFleet)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        tryout.try_project(tmp_path, (), 1, print, tmp_path)
    assert InterruptedFleet.children.pop().exit_code is not None
    assert not InterruptedFleet.folders.pop().exists()
    assert signal.getsignal(signal.SIGTERM) is before
