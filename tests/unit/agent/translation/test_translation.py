"""Every sentence is in every catalogue, with the same placeholders; languages are chosen well."""

from __future__ import annotations

import string
import subprocess
import sys

import pytest

from pleb_agent.core.languages import LANGUAGES, direction_of
from pleb_agent.core.sentence import Sentence, say, say_reason
from pleb_agent.translation.catalogue import parse_po, read_po
from pleb_agent.translation.formats import FORMATS
from pleb_agent.translation.words import Words, choose_language, words_for
from pleb_shared.protocol.reasons import TEMPLATES, ReasonCode, because, reason_sentence
from tools.update_catalogues import FOLDER, all_messages, po_text

OTHERS = sorted(set(LANGUAGES) - {"en"})


def placeholders(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


def of(language: str) -> dict[str, str]:
    messages = parse_po((FOLDER / f"{language}.po").read_text("utf-8"))
    del messages[""]
    return messages


@pytest.mark.parametrize("language", OTHERS)
def test_a_catalogue_has_every_sentence_and_no_other(language):
    assert set(of(language)) == set(all_messages()), "run `python -m tools.update_catalogues`"


@pytest.mark.parametrize("language", OTHERS)
def test_a_catalogue_is_as_the_tool_writes_it(language):
    text = (FOLDER / f"{language}.po").read_text("utf-8")
    assert po_text(parse_po(text), all_messages()) == text


@pytest.mark.parametrize("language", OTHERS)
def test_placeholders_are_the_same(language):
    for key, translated in of(language).items():
        one, _, many = key.partition("\0")
        for form in translated.split("\0"):
            assert placeholders(form) == placeholders(many or one), key


@pytest.mark.parametrize("language", OTHERS)
def test_a_translation_has_no_markup_and_no_stray_space(language):
    for key, translated in of(language).items():
        for form in translated.split("\0"):
            assert form.strip() == form != "", key
            assert "<" not in form, key


def test_the_extraction_finds_each_kind_of_place():
    found = all_messages()
    for text, place in {
        "Skip to the content": "web/templates/base.html",
        "of {count} core\0of {count} cores": "web/page_preferences.py",
        "and {count} more\0and {count} more": "web/templates/now_cards.html",
        "Paused by you, until you resume.": "core/rules.py",
        "The project is paused.": "pleb_shared/protocol/reasons.py",
        "Monday": "core/schedule.py",
        "Choose how long to pause.": "web/page_now.py",
        "Work while I use the PC": "core/preferences.py",
        "Quiet": "core/presets.py",
        "Start the agent": "tray/look.py",
        "This cannot be started: {reason}.": "tray/tray.py",
    }.items():
        assert found[text] == place


POLISH = """
msgid ""
msgstr ""
"Content-Type: text/plain; charset=UTF-8\\n"
"Plural-Forms: nplurals=3; plural=(n==1 ? 0 : n%10>=2 && n%10<=4 && "
"(n%100<10 || n%100>=20) ? 1 : 2);\\n"

# a comment
#: web/page_preferences.py
#, python-brace-format
msgid "of {count} core"
msgid_plural "of {count} cores"
msgstr[0] "z {count} rdzenia"
msgstr[1] "z {count} rdzeni"
msgstr[2] "z {count} rdzeni (wiele)"

#, fuzzy
msgid "Monday"
msgstr "Wtorek?"

msgid "Tuesday"
msgstr ""

msgid "A \\"quoted\\" one, "
"on two lines\\n"
msgstr "Jeden \\"cytat\\", "
"w dwóch wierszach\\n"
"""


def test_a_slavic_language_has_its_three_plural_forms():
    words = Words("pl", FORMATS["en"], read_po(POLISH))
    shown = [words.plural("of {count} core", "of {count} cores", n) for n in (1, 3, 5, 12, 22, 25)]
    assert shown == [
        "z 1 rdzenia",
        "z 3 rdzeni",
        "z 5 rdzeni (wiele)",
        "z 12 rdzeni (wiele)",
        "z 22 rdzeni",
        "z 25 rdzeni (wiele)",
    ]
    assert words.plural("of {count} core", "of {count} cores", 1.5) == "z 1.5 rdzeni"
    assert words.plural("{count} day", "{count} days", 3.0) == "3 days", "not translated"


def test_what_is_fuzzy_or_empty_stays_english():
    polish = read_po(POLISH)
    assert polish.gettext("Monday") == "Monday"
    assert polish.gettext("Tuesday") == "Tuesday"
    quoted = polish.gettext('A "quoted" one, on two lines\n')
    assert quoted == 'Jeden "cytat", w dwóch wierszach\n'


def test_the_tool_keeps_what_is_translated_and_adds_what_is_not():
    known = parse_po(POLISH)
    text = po_text(known, {"of {count} core\0of {count} cores": "here.py", "New": "there.py"})
    again = parse_po(text)
    assert again.items() <= known.items()
    assert 'msgid "New"\nmsgstr ""\n' in text
    assert "Jeden" not in text


def test_an_empty_text_is_not_the_catalogues_header():
    assert words_for("de").text("") == ""
    assert words_for("de").sentence(Sentence("")) == ""


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
    assert german.plural(one, many, 1) == "In 1 Version steckt dein Anteil."
    assert german.plural(one, many, 2) == "In 2 Versionen steckt dein Anteil."
    assert words_for("en").plural(one, many, 0) == "0 versions contain your work."


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
        "import sys, pleb_agent.translation.words as translation; translation.words_for('de'); "
        "print('jinja2' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 wersji zawiera Twoją pracę."),
        (1, "1 wersja zawiera Twoją pracę."),
        (2, "2 wersje zawierają Twoją pracę."),
        (4, "4 wersje zawierają Twoją pracę."),
        (5, "5 wersji zawiera Twoją pracę."),
        (12, "12 wersji zawiera Twoją pracę."),
        (21, "21 wersji zawiera Twoją pracę."),
        (22, "22 wersje zawierają Twoją pracę."),
        (112, "112 wersji zawiera Twoją pracę."),
        (1234, "1\N{NO-BREAK SPACE}234 wersje zawierają Twoją pracę."),
    ],
)
def test_polish_has_three_forms(count, said):
    one, many = "{count} version contains your work.", "{count} versions contain your work."
    assert words_for("pl").plural(one, many, count) == said


@pytest.mark.parametrize(
    ("preferred", "accepted", "language"),
    [("pl", "de", "pl"), ("", "pl-PL,pl;q=0.9,en;q=0.8", "pl"), ("", "pl_PL.UTF-8", "pl")],
)
def test_polish_is_chosen(preferred, accepted, language):
    assert choose_language(preferred, accepted) == language


def test_every_language_has_a_direction():
    assert {direction_of(language) for language in LANGUAGES} == {"ltr"}
    assert direction_of("ar") == "rtl"
