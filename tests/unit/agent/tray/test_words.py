"""The tray's language, and its catalogues."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pleb_agent.tray import look as look_module
from pleb_agent.tray import tray, words
from pleb_agent.tray.words import language_of, preferred_language, words_in

TRAY = Path(words.__file__).parent
LOCALES = sorted((TRAY / "locales").glob("*.json"))


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


def test_later_catalogues_win_and_what_they_lack_is_english(tmp_path: Path) -> None:
    for name, catalogue in (("a", {"Open": "A", "Quit": "A {n}"}), ("b", {"Open": "B"})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "de.json").write_text(json.dumps(catalogue), "utf-8")
    say = words_in("de", (str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path / "c")))

    assert say("Open") == "B"
    assert say("Quit", n=3) == "A 3"
    assert say("Other {n}", n=3) == "Other 3"
    assert say("no values {n}") == "no values {n}"


def templates() -> set[str]:
    """Return every template that the tray's own code says."""
    sources = [Path(module.__file__ or "").read_text("utf-8") for module in (look_module, tray)]
    return {found for source in sources for found in re.findall(r'say\(\s*"([^"]+)"', source)}


@pytest.mark.parametrize("path", LOCALES, ids=lambda path: path.stem)
def test_a_catalogue_has_all_templates_and_their_values(path: Path) -> None:
    catalogue = json.loads(path.read_text("utf-8"))

    assert set(catalogue) == templates()
    assert list(catalogue) == sorted(catalogue)
    for template, translated in catalogue.items():
        assert set(re.findall(r"{\w+}", template)) == set(re.findall(r"{\w+}", translated))


def test_german_is_there() -> None:
    assert [path.stem for path in LOCALES] == ["de"]
    assert words_in("de")("Pause") == "Anhalten"
