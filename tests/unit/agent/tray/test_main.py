"""The tray's command line and its one place in a home."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pleb_agent.tray.main import main
from pleb_system.lock import try_lock

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("arguments", [[], ["--home"], ["--home", "a", "b"], ["--house", "a"]])
def test_wrong_arguments_are_reported(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("Usage: ")


def test_a_missing_home_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--home", str(tmp_path / "nowhere")]) == 1
    assert "nowhere" in capsys.readouterr().err


def test_the_second_tray_of_a_home_ends_quietly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = try_lock(tmp_path / "tray.lock")
    assert place is not None
    assert main(["--home", str(tmp_path)]) == 0
    assert capsys.readouterr().err == ""
    os.close(place)


def test_a_place_is_free_again_when_its_holder_is_gone(tmp_path: Path) -> None:
    for _ in range(2):
        place = try_lock(tmp_path / "tray.lock")
        assert place is not None
        assert try_lock(tmp_path / "tray.lock") is None
        os.close(place)
