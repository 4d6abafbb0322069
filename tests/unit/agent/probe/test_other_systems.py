"""Windows and macOS by what their functions would answer."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import pytest

from pleb_agent.dbus.stream import ServiceMissing
from pleb_agent.probe.macos import MacBackend
from pleb_agent.probe.windows import WindowsBackend


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_the_probe_needs_no_library_there(platform: str) -> None:
    script = (
        f"import sys; sys.modules['jeepney'] = None; platform = {platform!r}\n"
        "import pleb_agent.probe.main, pleb_agent.probe.choice as choice\n"
        "choice.find_session({}, platform)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


@dataclass
class FakeWindows:
    now: int = 0
    last: int = 0
    state: int = 5  # QUNS_ACCEPTS_NOTIFICATIONS

    def last_input_tick(self) -> int:
        return self.last

    def tick(self) -> int:
        return self.now

    def notification_state(self) -> int:
        return self.state


@pytest.mark.parametrize(
    ("now", "last", "idle_seconds"),
    [(5_000, 2_000, 3.0), (2_000, 2_000, 0.0), (500, (1 << 32) - 500, 1.0)],
)
def test_windows_ticks_may_wrap(now: int, last: int, idle_seconds: float) -> None:
    assert WindowsBackend(FakeWindows(now, last)).idle_seconds() == idle_seconds


@pytest.mark.parametrize(
    ("state", "locked", "fullscreen"),
    [
        (0, False, False),  # it does not say
        (1, True, False),
        (2, False, True),
        (3, False, True),
        (4, False, True),
        (5, False, False),
        (6, False, False),  # quiet hours
        (7, False, False),  # an app of the store
    ],
)
def test_windows_reports_locks_and_full_screens(state: int, locked: bool, fullscreen: bool) -> None:
    windows = FakeWindows()
    backend = WindowsBackend(windows)
    windows.state = state
    backend.take()
    assert (backend.locked, backend.fullscreen) == (locked, fullscreen)
    assert backend.fileno() == -1


@dataclass
class FakeMac:
    seconds: float = 0.0
    locked: bool = False
    has_session: bool = True

    def seconds_since_input(self) -> float:
        return self.seconds

    def screen_locked(self) -> bool:
        if not self.has_session:
            raise ServiceMissing("no session")
        return self.locked


def test_macos_reports_input_and_locks() -> None:
    mac = FakeMac(seconds=12.5)
    backend = MacBackend(mac)
    assert backend.idle_seconds() == 12.5
    mac.seconds, mac.locked = -0.1, True
    backend.take()
    assert (backend.idle_seconds(), backend.locked, backend.fullscreen) == (0, True, False)
    assert backend.fileno() == -1


def test_a_mac_without_a_session_is_missing() -> None:
    with pytest.raises(ServiceMissing):
        MacBackend(FakeMac(has_session=False))
