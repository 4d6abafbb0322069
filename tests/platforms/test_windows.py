"""The real calls of Windows, its registry and its tray. Only collected on Windows."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pleb_agent.core.readings import PowerSource
from pleb_agent.desktop.entries import NAME, RUN, SCHEMES, WindowsEntries
from pleb_agent.desktop.notify import WindowsNotifier
from pleb_agent.probe.windows import User32, WindowsBackend
from pleb_agent.sensors.programs import PsutilPrograms
from pleb_agent.sensors.windows_power import WindowsPower, WindowsPowerRequest, on_power_event
from pleb_agent.tray.words import system_language
from pleb_agent.worker.trial import try_sandbox
from tests.platforms.real_programs import lower_priority, probe_line, show_tray

assert sys.platform == "win32"  # mypy checks the rest for Windows alone

from pleb_agent.desktop.entries import UserRegistry  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BELOW = r"Software\Pleb-Cluster-Test"
MOUSE_MOVED = 0x0001


class BelowOneKey(UserRegistry):
    """The user's registry, with every key below one of the test's."""

    def get(self, key: str, name: str) -> str | None:
        return super().get(rf"{BELOW}\{key}", name)

    def set(self, key: str, name: str, value: str) -> None:
        super().set(rf"{BELOW}\{key}", name, value)

    def delete_value(self, key: str, name: str) -> None:
        super().delete_value(rf"{BELOW}\{key}", name)

    def delete_tree(self, key: str) -> None:
        super().delete_tree(rf"{BELOW}\{key}")


@pytest.fixture
def registry() -> Iterator[BelowOneKey]:
    yield BelowOneKey()
    UserRegistry().delete_tree(BELOW)


def test_entries_are_made_and_removed(registry: BelowOneKey) -> None:
    opener = ["C:/Program Files/pleb/pleb-agent.exe", "open"]
    entries = WindowsEntries(registry, [*opener[:1], "start"], opener)
    assert not entries.state()[0]
    entries.make()
    entries.make()
    assert entries.state()[0]
    assert registry.get(RUN, NAME) == '"C:/Program Files/pleb/pleb-agent.exe" start'
    command = registry.get(SCHEMES[0] + r"\shell\open\command", "")
    assert command == '"C:/Program Files/pleb/pleb-agent.exe" open "%1"'
    entries.remove()
    entries.remove()
    assert not entries.state()[0]
    assert registry.get(SCHEMES[0], "URL Protocol") is None


def test_the_power_of_a_runner_is_mains() -> None:
    assert WindowsPower().read().source is PowerSource.MAINS


def power_requests() -> str:
    done = subprocess.run(["powercfg", "/requests"], capture_output=True, check=True, text=True)
    return done.stdout


def test_a_power_request_is_listed_with_its_reason_until_it_is_released() -> None:
    request = WindowsPowerRequest()
    request.hold()
    assert "Pleb-Cluster" in power_requests()
    request.release()
    assert "Pleb-Cluster" not in power_requests()


def test_sleep_events_can_be_subscribed_to() -> None:
    end = on_power_event(lambda _: None)
    end()


def test_input_is_seen_at_once() -> None:
    ctypes.WinDLL("user32").mouse_event(MOUSE_MOVED, 5, 5, 0, 0)
    backend = WindowsBackend(User32())
    assert backend.idle_seconds() < 1
    assert isinstance(backend.locked, bool)
    assert probe_line()[:2] == ["readable", "Windows"]


def test_the_priority_is_lowered() -> None:
    assert set(lower_priority().values()) == {"set"}


def test_a_running_program_is_found() -> None:
    assert PsutilPrograms(lambda: ["python"]).read() == {"python"}


def test_a_notification_is_shown() -> None:
    WindowsNotifier().show("Pleb-Cluster", 'A test\'s notification: <b>"quoted"</b>')


def test_the_language_is_known() -> None:
    assert system_language()[:2].isalpha()


def test_the_tray_shows_states_and_ends_with_the_agent(tmp_path: Path) -> None:
    assert show_tray(tmp_path) == 0


def test_the_sandbox_stops_programs_memory_and_writing_outside() -> None:
    report = try_sandbox()
    assert [layer for layer in report.layers if not layer.holds] == []
    denied = {one.attempt for one in report.outcomes if one.before and not one.after}
    assert denied >= {
        "start programs",
        "take more memory",
        "write files outside",
        "make files outside",
        "make files",
    }
