"""Anything in the place of a home's file: a sentence at once, and nothing is lost."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from pleb_agent.app.home import Home
from pleb_agent.app.remote import NotRunningError, Remote
from pleb_agent.control.live_preferences import read_preferences
from pleb_agent.control.live_rules import read_rules
from pleb_agent.journal.database import JournalError
from pleb_agent.journal.journal import Journal
from pleb_agent.journal.keys import KeyStore
from pleb_agent.signals.history import SignalHistory
from pleb_shared.errors import InputError
from pleb_system.regular_files import read_regular, require_regular

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

INTRUDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "folder": (lambda path: path.mkdir(), "folder|directory"),
    "link to a folder": (lambda path: path.symlink_to(path.parent), "folder|directory"),
}
if sys.platform != "win32":
    INTRUDERS |= {
        "pipe": (os.mkfifo, "a pipe"),
        "endless device": (lambda path: path.symlink_to("/dev/zero"), "a device"),
    }


@pytest.fixture(params=list(INTRUDERS.values()), ids=list(INTRUDERS))
def intruder(request: pytest.FixtureRequest) -> tuple[Callable[[Path], object], str]:
    found: tuple[Callable[[Path], object], str] = request.param
    return found


@pytest.fixture
def home(tmp_path: Path) -> Home:
    found = Home(tmp_path / "home")
    found.prepare()
    return found


def test_preferences(home: Home, intruder: tuple[Callable[[Path], object], str]) -> None:
    put, named = intruder
    put(home.preferences)
    with pytest.raises(InputError, match=rf"(?i)preferences cannot be read \(.*({named})"):
        read_preferences(home.preferences)


def test_rules(home: Home, intruder: tuple[Callable[[Path], object], str]) -> None:
    put, named = intruder
    put(home.rules)
    with pytest.raises(InputError, match=rf"(?i)rules cannot be read \(.*({named})"):
        read_rules(home.rules)


def test_history_of_signals(home: Home, intruder: tuple[Callable[[Path], object], str]) -> None:
    """It is only for a preview: agentd goes on without it."""
    put, _ = intruder
    file = home.path / "signal-history.json"
    put(file)
    kept = SignalHistory(file)
    assert kept.values == {}
    kept.note("S", 1.0, 2_000_000_000.0)
    kept.write()


def test_journal(home: Home, intruder: tuple[Callable[[Path], object], str]) -> None:
    put, named = intruder
    put(home.journal)
    with pytest.raises(JournalError, match=rf"(?i)journal cannot be used \(.*({named})"):
        Journal(home.journal)


def test_key(home: Home, intruder: tuple[Callable[[Path], object], str]) -> None:
    put, named = intruder
    put(home.keys / "a.key")
    with pytest.raises(InputError, match=rf"(?i)a.key cannot be read \(.*({named})"):
        KeyStore(home.keys).load("a.key")


def test_agents_address(home: Home, intruder: tuple[Callable[[Path], object], str]) -> None:
    put, _ = intruder
    put(home.control)
    with pytest.raises(NotRunningError):
        Remote(home)


def test_a_file_that_is_far_too_long_is_not_read(tmp_path: Path) -> None:
    long = tmp_path / "long"
    with long.open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(OSError, match="over 1,000 bytes"):
        read_regular(long, 1000)


def test_what_is_there_is_read(tmp_path: Path) -> None:
    file = tmp_path / "file"
    require_regular(file)
    with pytest.raises(FileNotFoundError):
        read_regular(file, 10)
    file.write_bytes(b"0123456789")
    require_regular(file)
    assert read_regular(file, 10) == b"0123456789"
