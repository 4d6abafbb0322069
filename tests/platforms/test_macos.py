"""macOS's own programs and frameworks, launchd and the menu bar. Only collected on macOS."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from pleb_agent.core.readings import PowerSource
from pleb_agent.desktop.entries import LABEL, MacEntries
from pleb_agent.desktop.notify import MacNotifier
from pleb_agent.probe.macos import MacBackend, Quartz
from pleb_agent.sensors.keep_awake import Caffeinate
from pleb_agent.sensors.macos_power import MacCharger, MacPower, ask_pmset
from pleb_agent.sensors.programs import PsutilPrograms
from pleb_agent.tray.words import system_language
from pleb_agent.worker.trial import try_sandbox
from tests.platforms.real_programs import lower_priority, probe_line, show_tray

if TYPE_CHECKING:
    from pathlib import Path

assert sys.platform == "darwin"  # mypy checks the rest for macOS alone


def output_of(*command: str) -> str:
    return subprocess.run(command, capture_output=True, check=True, text=True, timeout=60).stdout


def test_the_power_of_a_runner_is_mains() -> None:
    assert ask_pmset() is not None
    assert MacPower().read().source is PowerSource.MAINS
    assert MacCharger().read() is True


def test_caffeinate_keeps_the_machine_awake_until_it_is_released() -> None:
    awake = Caffeinate()
    awake.hold()
    try:
        assert "caffeinate" in output_of("pmset", "-g", "assertions")
    finally:
        awake.release()
    assert f"-w {os.getpid()}" not in output_of("ps", "-A", "-o", "args")


def test_the_session_in_front_is_read() -> None:
    backend = MacBackend(Quartz())
    assert backend.idle_seconds() >= 0
    assert isinstance(backend.locked, bool)
    assert probe_line()[:2] == ["readable", "macOS"]


def test_launchd_takes_the_launch_agent(tmp_path: Path) -> None:
    entries = MacEntries(tmp_path, ["/usr/bin/true"], tmp_path)
    entries.make()
    assert "OK" in output_of("plutil", "-lint", str(entries.plist))
    session = f"gui/{os.getuid()}"
    output_of("launchctl", "bootstrap", session, str(entries.plist))
    try:
        assert LABEL in output_of("launchctl", "print", f"{session}/{LABEL}")
    finally:
        output_of("launchctl", "bootout", f"{session}/{LABEL}")
    entries.remove()
    assert not entries.state()[0]


def test_the_priority_is_lowered() -> None:
    assert set(lower_priority().values()) == {"set"}


def test_a_running_program_is_found() -> None:
    assert PsutilPrograms(lambda: ["launchd"]).read() == {"launchd"}


def test_a_notification_is_shown() -> None:
    MacNotifier().show("Pleb-Cluster", 'A test\'s notification: <b>"quoted"</b>')


def test_the_language_is_known() -> None:
    assert system_language()[:2].isalpha()


def test_the_tray_shows_states_and_ends_with_the_agent(tmp_path: Path) -> None:
    assert show_tray(tmp_path) == 0


def test_the_sandbox_stops_all_but_memory_and_threads() -> None:
    report = try_sandbox()
    assert [layer for layer in report.layers if not layer.holds] == []
    open_still = {one.attempt for one in report.outcomes if one.before and one.after}
    assert open_still <= {"take more memory", "start a great many threads", "lock files"}
