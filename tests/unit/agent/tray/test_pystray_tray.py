"""The tray of Windows and macOS, on fakes of what the systems show."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from pleb_agent.tray.look import PROGRESS, Command, Entry, State, look_of
from pleb_agent.tray.pystray_tray import FollowerThread, menu_lines, tooltip_of
from pleb_agent.tray.tray import Tray
from pleb_agent.tray.words import words_in
from tests.fake_agentd import FakeAgentd, status_of

if TYPE_CHECKING:
    from pathlib import Path

    from pleb_agent.tray.look import Look

SAY = words_in("en")


class FakeIcon:
    """Remembers what was shown, and by which thread."""

    def __init__(self) -> None:
        self.looks: list[Look] = []
        self.threads: set[str] = set()
        self.changed = threading.Condition()
        self.ended = threading.Event()

    def show(self, look: Look) -> None:
        with self.changed:
            self.looks.append(look)
            self.threads.add(threading.current_thread().name)
            self.changed.notify_all()

    def end(self) -> None:
        self.ended.set()

    def wait_for(self, state: State) -> None:
        with self.changed:
            assert self.changed.wait_for(
                lambda: bool(self.looks) and self.looks[-1].state is state, 30
            ), state


def thread_of(home: Path, face: FakeIcon) -> FollowerThread:
    import time

    tray = Tray(str(home), time.monotonic, SAY, lambda command, **_: None)
    return FollowerThread(tray, face)


def test_the_thread_follows_and_carries_out_clicks(tmp_path: Path) -> None:
    agentd, face = FakeAgentd(tmp_path), FakeIcon()
    thread = thread_of(tmp_path, face)
    thread.start()
    face.wait_for(State.TRAINING)
    thread.click(Command.PAUSE)
    face.wait_for(State.PAUSED)
    thread.click(Command.QUIT)

    assert face.ended.wait(30)
    thread.join()
    agentd.stop()
    assert agentd.requests == [("pause", {}), ("stop", {"finish": False})]
    assert face.threads == {"follower"}


def test_an_agent_that_is_stopped_ends_the_thread(tmp_path: Path) -> None:
    agentd, face = FakeAgentd(tmp_path), FakeIcon()
    thread = thread_of(tmp_path, face)
    thread.start()
    face.wait_for(State.TRAINING)
    agentd.change(status_of("stopped", running=False))

    assert face.ended.wait(30)
    thread.join()
    agentd.stop()


def test_a_home_that_is_gone_ends_the_thread(tmp_path: Path) -> None:
    face = FakeIcon()
    thread = thread_of(tmp_path / "gone", face)
    thread.start()

    assert face.ended.wait(30)
    thread.join()


def entry(number: int, *, visible: bool = True, separator: bool = False) -> Entry:
    return Entry(number, f"{number}", visible=visible, separator=separator)


@pytest.mark.parametrize(
    ("menu", "numbers"),
    [
        ((), []),
        ((entry(1), entry(3, visible=False), entry(4)), [1, 4]),
        ((entry(1), entry(PROGRESS), entry(4)), [1, 4]),
        ((entry(1, separator=True), entry(3), entry(4, separator=True)), [3]),
        ((entry(1), *(entry(n, separator=True) for n in (3, 4)), entry(5)), [1, 3, 5]),
        ((entry(1, separator=True), entry(3, separator=True)), []),
    ],
)
def test_lines_of_a_menu(menu: tuple[Entry, ...], numbers: list[int]) -> None:
    assert [line.number for line in menu_lines(menu)] == numbers


def test_progress_is_in_the_tooltip() -> None:
    unit = {"project": "classify", "version": 12, "steps_done": 1, "steps_total": 4}
    found = tooltip_of(look_of({"sentence": "So.", "unit": unit}, SAY))
    assert found == "Pleb-Cluster: So.\nclassify, version 12: 25 %"


@pytest.mark.parametrize(
    ("sentence", "tooltip"),
    [
        ("Short.", "Pleb-Cluster: Short."),
        ("x" * 113, "Pleb-Cluster: " + "x" * 113),
        ("x" * 114, "Pleb-Cluster: " + "x" * 112 + "…"),
    ],
)
def test_a_tooltip_is_as_long_as_windows_shows(sentence: str, tooltip: str) -> None:
    found = tooltip_of(look_of({"sentence": sentence}, SAY))
    assert found == tooltip
    assert len(found) <= 127
