"""The tray's language, and its catalogues."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pleb_agent.tray.words import language_of, preferred_language, words_in

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("preferred", "environment", "language"),
    [
        ("", {}, "en"),
        ("", {"LANG": "de_DE.UTF-8"}, "de"),
        ("", {"LANG": "C"}, "c"),
        ("", {"LANG": "C.UTF-8"}, "c"),
        ("", {"LANG": "de_DE.UTF-8", "LC_ALL": "fr_FR.UTF-8"}, "fr"),
        ("", {"LANG": "en_US", "LANGUAGE": "de:fr"}, "de"),
        ("", {"LANG": "de", "LC_ALL": ""}, "de"),
        ("pt-BR", {"LANG": "de_DE.UTF-8"}, "pt"),
        ("", {"LANG": "../../etc/passwd"}, "en"),
        ("", {"LANG": "日本"}, "en"),
    ],
)
def test_language(preferred: str, environment: dict[str, str], language: str) -> None:
    assert language_of(preferred, environment) == language


@pytest.mark.parametrize(
    ("text", "language"),
    [('{"language": "de"}', "de"), ("{}", ""), ('{"language": null}', ""), ("[", ""), ("[]", "")],
)
def test_the_language_that_was_chosen_on_the_page(tmp_path: Path, text: str, language: str) -> None:
    (tmp_path / "preferences.json").write_text(text, "utf-8")
    assert preferred_language(str(tmp_path)) == language


def test_without_preferences_the_session_decides(tmp_path: Path) -> None:
    assert preferred_language(str(tmp_path)) == ""


def test_german_and_a_language_without_catalogue() -> None:
    german, none = words_in("de"), words_in("xx")
    assert german("Resume") == "Fortsetzen"
    assert german("Working for {project}.", project="words") == "Arbeitet für words."
    assert german("No such sentence: {n}", n=3) == "No such sentence: 3"
    assert german("no values {n}") == "no values {n}"
    assert none("Resume") == "Resume"
