"""Every sentence is in every catalogue, with the same placeholders; languages are chosen well."""

from __future__ import annotations

import string
import subprocess
import sys

import pytest

from pleb_agent.core.sentence import Sentence, say, say_reason
from pleb_agent.web.translation import LANGUAGES, catalogue, choose_language, words_for
from pleb_shared.protocol.reasons import TEMPLATES, ReasonCode, because, reason_sentence
from tests.unit.agent.web.messages import all_messages

OTHERS = sorted(set(LANGUAGES) - {"en"})


def placeholders(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


@pytest.mark.parametrize("language", OTHERS)
def test_a_catalogue_is_complete(language):
    missing = {
        text: place for text, place in all_messages().items() if text not in catalogue(language)
    }
    assert not missing, f"add them to web/locales/{language}.json"


@pytest.mark.parametrize("language", OTHERS)
def test_a_catalogue_has_nothing_that_nobody_says(language):
    assert set(catalogue(language)) <= set(all_messages())


@pytest.mark.parametrize("language", OTHERS)
def test_placeholders_are_the_same(language):
    for template, translated in catalogue(language).items():
        assert placeholders(template) == placeholders(translated), template


@pytest.mark.parametrize("language", OTHERS)
def test_a_translation_has_no_markup_and_no_stray_space(language):
    for template, translated in catalogue(language).items():
        assert translated.strip() == translated != "", template
        assert "<" not in translated, template


def test_the_extraction_finds_each_kind_of_place():
    found = all_messages()
    for text, place in {
        "Skip to the content": "base.html",
        "{count} days": "given.html",
        "Paused by you, until you resume.": "core/rules.py",
        "Monday": "core/schedule.py",
        "Choose how long to pause.": "web/page_now.py",
        "Work while I use the PC": "core/preferences.py",
        "Quiet": "core/presets.py",
    }.items():
        assert found[text] == place


@pytest.mark.parametrize(
    ("preferred", "accepted", "language"),
    [
        ("", "", "en"),
        ("", "de", "de"),
        ("", "de-AT,de;q=0.9,en;q=0.8", "de"),
        ("", "en;q=0.2, de;q=0.8", "de"),
        ("", "fr, ja;q=0.9", "en"),
        ("", "fr, de;q=0.1", "de"),
        ("", "de;q=0, en", "en"),
        ("", "de;q=x, en;q=0.1", "en"),
        ("", "*", "en"),
        ("en", "de", "en"),
        ("de", "", "de"),
        ("xx", "de_DE.UTF-8", "de"),
        ("", "," * 5000, "en"),
    ],
)
def test_the_language_is_chosen(preferred, accepted, language):
    assert choose_language(preferred, accepted) == language


def test_numbers_in_sentences_are_local():
    german = words_for("de")
    assert german.text("of {number}", number=1234) == "von 1.234"
    assert german.text("Version {version} is available", version=1234) == "Version 1234 ist da"
    assert german.text("of {number}", number="1.234") == "von 1.234"
    share = say(
        "The PC is at {degrees} °C; work resumes below {resume} °C.", degrees="0.5", resume=2
    )
    assert german.sentence(share) == "Der PC hat 0,5 °C; unter 2 °C geht es weiter."
    assert words_for("en").text("of {number}", number=1234) == "of 1,234"


@pytest.mark.parametrize("code", ReasonCode)
def test_a_coordinators_reason_is_translated(code):
    fields = placeholders(TEMPLATES[code])
    reason = because(code, **dict.fromkeys(fields, 17))
    shown = words_for("de").sentence(
        say("{project}: {reason}", project="p", reason=say_reason(reason))
    )
    assert shown.startswith("p: ")
    assert shown != f"p: {reason_sentence(reason)}"
    assert not fields or "17" in shown


def test_a_value_that_is_no_sentence_is_not_translated():
    strange = say("{project}: {reason}", project="Monday", reason=say("Version {number} 7 is {x}."))
    assert words_for("de").sentence(strange) == "Monday: Version {number} 7 is {x}."


def test_one_and_many():
    german = words_for("de")
    one, many = "{count} version contains your work.", "{count} versions contain your work."
    assert german.several(one, many, 1) == "In 1 Version steckt dein Anteil."
    assert german.several(one, many, 2) == "In 2 Versionen steckt dein Anteil."
    assert words_for("en").several(one, many, 0) == "0 versions contain your work."


def test_a_sentence_of_the_core_is_translated_and_an_unknown_one_stays():
    german = words_for("de")
    day = say(
        "Outside your working hours; work starts on {day} at {time}.",
        day=say("Monday"),
        time="20:00",
    )
    assert german.sentence(day) == "Außerhalb deiner Zeiten; am Montag um 20:00 geht es los."
    assert german.sentence(say("A stranger's {words}", words=1)) == "A stranger's 1"
    assert german.sentence(say("{x")) == "{x"
    assert german.sentence(Sentence("{x}"), "as it came") == "as it came"
    assert german.sentence(Sentence("{x"), "as it came") == "as it came"
    why = say("{project}: {reason}", project="Log", reason=say("The agent is starting."))
    assert german.sentence(why) == "Log: Der Agent startet."
    named = say("Working for {project}.", project="Log")
    assert german.sentence(named) == "Arbeitet für Log."


def test_translation_costs_no_jinja():
    script = (
        "import sys, pleb_agent.web.translation as translation; translation.words_for('de'); "
        "print('jinja2' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "False"
