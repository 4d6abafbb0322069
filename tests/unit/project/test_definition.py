"""A project file: defaults, errors that show the place, and documentation that agrees."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from pleb_project.definition.errors import DefinitionError
from pleb_project.definition.load import load_definition, parse_definition, sections
from pleb_project.definition.places import Place, find_places
from pleb_project.definition.reference import reference
from pleb_project.definition.rules import rule_of
from pleb_shared.errors import InputError

ROOT = Path(__file__).parents[3]
FILE = Path("p/project.toml")
MINIMAL = '[project]\nname = "digits"\n\n[data]\nsource = "sklearn:digits"\n'

GOLDEN = {
    "unknown section": (
        "[trainin]\nbatch = 1\n",
        (
            "p/project.toml:7:1: There is no section [trainin]: did you mean 'training'?\n"
            "   7 | [trainin]\n"
            "     | ^^^^^^^^^"
        ),
    ),
    "unknown key": (
        "[training]\nlearningrate = 3\n",
        (
            "p/project.toml:8:1: [training] has no key 'learningrate': did you mean "
            "'learning_rate'?\n"
            "   8 | learningrate = 3\n"
            "     | ^^^^^^^^^^^^"
        ),
    ),
    "wrong type": (
        '[training]\nlearning_rate = "a"  # high\n',
        (
            "p/project.toml:8:17: learning_rate must be a number, not 'a'.\n"
            '   8 | learning_rate = "a"  # high\n'
            "     |                 ^^^"
        ),
    ),
    "boolean for a number": (
        "[training]\nbatch = true\n",
        (
            "p/project.toml:8:9: batch must be a whole number, not true.\n"
            "   8 | batch = true\n"
            "     |         ^^^^"
        ),
    ),
    "too small": (
        "[training]\nbatch = 0\n",
        "p/project.toml:8:9: batch must be at least 1, not 0.\n   8 | batch = 0\n     |         ^",
    ),
    "not finite": (
        "[training]\nlearning_rate = inf\n",
        (
            "p/project.toml:8:17: learning_rate must be a finite number, not inf.\n"
            "   8 | learning_rate = inf\n"
            "     |                 ^^^"
        ),
    ),
    "no such choice": (
        '[codec]\nup = "int2"\n',
        (
            "p/project.toml:8:6: up must be one of 'fp32', 'int8', 'int4', '2bit', not 'int2'.\n"
            '   8 | up = "int2"\n'
            "     |      ^^^^^^"
        ),
    ),
    "another optimizer's option": (
        "[training]\nepsilon = 1e-3\n",
        (
            "p/project.toml:8:11: epsilon is no option of 'muon' but of 'adamw': remove it or "
            "change the optimizer.\n"
            "   8 | epsilon = 1e-3\n"
            "     |           ^^^^"
        ),
    ),
    "quorum above units": (
        "[round]\nunits = 2\nquorum = 3\n",
        (
            "p/project.toml:9:10: quorum 3 must not exceed units 2.\n"
            "   9 | quorum = 3\n"
            "     |          ^"
        ),
    ),
    "required key": (
        '[target]\nmetric = "accuracy"\n',
        (
            "p/project.toml:7:1: [target] needs value = ... (what it must reach).\n"
            "   7 | [target]\n"
            "     | ^^^^^^^^"
        ),
    ),
    "no TOML": (
        "[training\n",
        (
            "p/project.toml:7:10: This is not TOML: expected ']' at the end of a table "
            "declaration. Write `key = value`.\n"
            "   7 | [training\n"
            "     |          ^"
        ),
    ),
}


@pytest.mark.parametrize("case", GOLDEN)
def test_an_error_shows_the_place_and_what_to_write(case):
    addition, expected = GOLDEN[case]
    with pytest.raises(DefinitionError) as caught:
        parse_definition(f"{MINIMAL}\n{addition}", FILE)
    assert str(caught.value) == expected


def test_a_value_where_a_section_belongs():
    with pytest.raises(DefinitionError, match=r"'round' must be a section: write \[round\]"):
        parse_definition(f"round = 3\n{MINIMAL}", FILE)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", r"The section \[project\] is missing"),
        ('[project]\ntitle = "t"\n[data]\nsource = "text"\n', r"\[project\] needs name"),
        (MINIMAL.replace("digits", "Digits"), "must be of a-z"),
        (MINIMAL.replace("sklearn:digits", "cvs"), "source 'cvs' must be"),
        (MINIMAL.replace("sklearn:digits", "csv"), "source 'csv' needs files = 'data.csv'"),
        (MINIMAL + 'files = "a"\n', "files must go"),
        (MINIMAL.replace("sklearn:digits", "idx") + 'files = ["a"]\n', "two idx files"),
        (MINIMAL + "holdout = 0\n", "must be greater than 0"),
        (MINIMAL + 'delimiter = ";;"\n', "must be one character"),
        (MINIMAL + "[training]\nwarm_start_versions = 50\n", "must not exceed versions"),
        (MINIMAL + "files = [1, 2]\n", "a text in quotes, or a list of such texts"),
        (MINIMAL + "[verification]\ntolerance = 1\ntolerance_ceiling = 0.5\n", "at least toler"),
    ],
)
def test_what_does_not_fit_is_refused(text, sentence):
    with pytest.raises(DefinitionError, match=sentence):
        parse_definition(text, FILE)


def test_a_minimal_file_gets_every_default():
    definition = parse_definition(MINIMAL, FILE)
    assert definition.training.optimizer == "muon"
    assert (definition.round.units, definition.quorum) == (16, 12)
    assert definition.target is None
    assert definition.folder == Path("p")


def test_dotted_keys_and_inline_tables_are_read_and_placed():
    text = 'project.name = "x"\ndata = { source = "sklearn:digits", holdouts = 1 }\n'
    with pytest.raises(DefinitionError) as caught:
        parse_definition(text, FILE)
    assert caught.value.place == Place(2, 1, 4)


@pytest.mark.parametrize(
    ("line", "value"), [("training.versions=3", 3), ("training.versions = 3", 3)]
)
def test_overrides_replace_what_the_file_says(line, value):
    assert parse_definition(MINIMAL, FILE, (line,)).training.versions == value


def test_an_override_may_be_a_text_without_quotes():
    text = MINIMAL.replace("sklearn:digits", "text")
    assert parse_definition(text, FILE, ("data.files=/a/b.txt",)).data.files == ("/a/b.txt",)


@pytest.mark.parametrize("line", ["versions=3", "training.versions", ".=3"])
def test_an_override_of_another_form_is_refused(line):
    with pytest.raises(InputError, match=r"SECTION\.KEY=VALUE"):
        parse_definition(MINIMAL, FILE, (line,))


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(InputError, match="pleb-project new"):
        load_definition(tmp_path)


def test_a_file_that_is_not_text(tmp_path):
    (tmp_path / "project.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="UTF-8"):
        load_definition(tmp_path)


def test_places_survive_strings_comments_and_long_arrays():
    text = (
        "a = \"x # no [c]\" # yes\nb = [1, # one\n  \"]\", '''two\nlines''']\n"
        '["d"."e f"]\ng.h = 1\n'
    )
    places = find_places(text)
    assert places["a",] == (Place(1, 1, 1), Place(1, 5, 12))
    assert places["b",][1].line == 2
    assert places["d", "e f"][0] == Place(5, 1, 11)
    assert places["d", "e f", "g", "h"] == (Place(6, 1, 3), Place(6, 7, 1))


def test_the_documentation_has_the_reference_word_by_word():
    page = (ROOT / "docs" / "project-file.md").read_text(encoding="utf-8")
    assert reference() in page


def test_every_field_has_a_rule():
    fields = [field for kind in sections().values() for field in dataclasses.fields(kind)]
    assert all(rule_of(field).text for field in fields)


@pytest.mark.parametrize("example", ["digits", "pydoc-gpt", "fashion-mnist"])
def test_the_examples_are_valid(example):
    assert load_definition(ROOT / "examples" / example).target is not None
