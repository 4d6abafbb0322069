"""A project file: defaults, errors that show the place, and documentation that agrees."""

from __future__ import annotations

from pathlib import Path

import pytest

from pleb_project.definition.keys import keys_of
from pleb_project.definition.load import load_definition, parse_definition
from pleb_project.definition.places import DefinitionError, Place, find_places
from pleb_project.definition.reference import reference
from pleb_project.definition.sections import OPTIMIZERS, SECTIONS
from pleb_shared.errors import InputError
from pleb_shared.protocol.project import Muon, SgdMomentum

ROOT = Path(__file__).parents[3]
FILE = Path("p/project.toml")
MINIMAL = '[project]\nname = "digits"\n\n[data]\nsource = "sklearn:digits"\n'

# What is wrong; its line, column and length; what the sentence must name.
WRONG = {
    "unknown section": ("[trainin]\nbatch = 1\n", (7, 1, 9), ["trainin", "'training'?"]),
    "unknown key": ("[training]\nlearningrate = 3\n", (8, 1, 12), ["'learning_rate'?"]),
    "wrong type": ('[training]\nlearning_rate = "a"  # high\n', (8, 17, 3), ["number", "'a'"]),
    "boolean for a number": ("[training]\nbatch = true\n", (8, 9, 4), ["whole number", "true"]),
    "too small": ("[training]\nbatch = 0\n", (8, 9, 1), ["from 1 to 65536", "not 0"]),
    "too large": ("[codec]\nblock = 999999\n", (8, 9, 6), ["from 16 to 65536"]),
    "not finite": ("[training]\nlearning_rate = inf\n", (8, 17, 3), ["finite"]),
    "too large for a float": ("[training]\nlearning_rate = 1e999\n", (8, 17, 5), ["finite"]),
    "many digits": ("[training]\nbatch = " + "9" * 5000, (8, 9, 1), ["64 bits"]),
    "more than 64 bits": ("[training]\nbatch = " + "9" * 20, (8, 9, 20), ["64 bits"]),
    "a long fraction": (
        "[training]\nlearning_rate = 0." + "1" * 5000,
        (8, 17, 1),
        ["64 characters"],
    ),
    "deep": ("[training]\nbatch = " + "[" * 9000, (1, 1, 1), ["16 levels"]),
    "a key of many parts": ("a" + ".a" * 9000 + " = 1\n", (7, 1, 1), ["16 parts"]),
    "no such choice": ('[codec]\nup = "int2"\n', (8, 6, 6), ["'int4'", "'2bit'", "'int2'"]),
    "no such optimizer": ('[training]\noptimizer = "adam"\n', (8, 13, 6), ["'adamw'", "'adam'"]),
    "another optimizer's option": (
        "[training]\nepsilon = 1e-3\n",
        (8, 11, 4),
        ["'muon'", "'adamw'"],
    ),
    "an option out of bounds": ("[training]\nmomentum = 2\n", (8, 12, 1), ["from 0 to 1"]),
    "quorum above units": ("[round]\nunits = 2\nquorum = 3\n", (9, 10, 1), ["quorum 3", "units 2"]),
    "no clip": ("[privacy]\nnoise_multiplier = 1\n", (7, 1, 9), ["clip_norm"]),
    "no noise": (
        "[privacy]\nclip_norm = 1\nnoise_multiplier = 0\n",
        (9, 20, 1),
        ["from 0.001 to 1000000"],
    ),
    "noise and a robust rule": (
        '[privacy]\nclip_norm = 1\nnoise_multiplier = 1\n[outer]\ncombination = "median"\n',
        (7, 1, 9),
        ["cannot hold", "combination = 'mean'"],
    ),
    "noise and chunks": (
        '[privacy]\nclip_norm = 1\nnoise_multiplier = 1\n[limits]\nchunks = ["layers:1/2"]\n',
        (7, 1, 9),
        ["cannot hold", "remove chunks"],
    ),
    "noise and members": (
        "[privacy]\nclip_norm = 1\nnoise_multiplier = 1\n[ensemble]\nmembers = 2\n",
        (7, 1, 9),
        ["cannot hold", "family"],
    ),
    "noise and a warm start": (
        "[privacy]\nclip_norm = 1\nnoise_multiplier = 1\n[training]\nwarm_start_versions = 1\n",
        (7, 1, 9),
        ["cannot hold", "warm_start_versions = 0"],
    ),
    "required key": ('[target]\nmetric = "accuracy"\n', (7, 1, 8), ["value"]),
    "no TOML": ("[training\n", (7, 10, 1), ["not TOML", "key = value"]),
}


def test_with_noise_no_default_stands_in_its_way():
    noise = "[privacy]\nclip_norm = 1\nnoise_multiplier = 1\n"
    found = parse_definition(f"{MINIMAL}\n{noise}", FILE)
    assert (found.round.quorum, found.training.warm_start_versions) == (found.round.units, 0)
    with pytest.raises(DefinitionError, match="set quorum to the number of units"):
        parse_definition(f"{MINIMAL}\n{noise}[round]\nunits = 4\nquorum = 3\n", FILE)


OWN = (
    '[project]\nname = "own"\naccess = "invited"\n'
    '[data]\nwhere = "host"\nsource = "npz"\nfiles = "a.npz"\n'
)


def test_with_own_data_no_default_stands_in_its_way():
    found = parse_definition(OWN + "[round]\nunits = 3\n", FILE)
    assert found.outer.combination == "centred_clipping"
    assert (found.round.quorum, found.training.warm_start_versions) == (3, 0)
    assert "shards_per_unit" not in found.measured


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (OWN.replace("invited", "public"), "access = 'invited'"),
        (OWN.replace('"npz"', '"parquet"'), "hosts cannot read 'parquet'"),
        (OWN.replace('"npz"', '"text"'), "'text' and 'tokens' are one long list"),
        (OWN + "max_length = 9\n", "hosts do not pad"),
        (OWN + "[round]\nunits = 2\n", "set quorum to 3 or more"),
        (OWN + '[outer]\ncombination = "mean"\n', "centred_clipping"),
        (OWN + "[training]\nwarm_start_versions = 1\n", "warm_start_versions = 0"),
        (OWN + '[limits]\nchunks = ["layers:1/2"]\n', "remove chunks"),
        (OWN + "[ensemble]\nmembers = 2\n", "published alone|private project alone"),
        (OWN + "[privacy]\nclip_norm = 1\nnoise_multiplier = 1\n", r"\[privacy\] cannot hold"),
    ],
)
def test_own_data_that_could_not_be_bounded_are_refused(text, sentence):
    with pytest.raises(DefinitionError, match=sentence):
        parse_definition(text, FILE)


@pytest.mark.parametrize("case", WRONG)
def test_an_error_shows_the_place_and_what_to_write(case):
    addition, place, words = WRONG[case]
    with pytest.raises(DefinitionError) as caught:
        parse_definition(f"{MINIMAL}\n{addition}", FILE)
    assert caught.value.place == Place(*place)
    assert all(word in caught.value.sentence for word in words), caught.value.sentence
    assert len(str(caught.value)) < 1000


def test_an_error_is_shown_below_its_line():
    with pytest.raises(DefinitionError) as caught:
        parse_definition(f"{MINIMAL}\n[training]\nbatch = true\n", FILE)
    first, *snippet = str(caught.value).splitlines()
    assert first.startswith("p/project.toml:8:9: batch must be")
    assert snippet == ["   8 | batch = true", "     |         ^^^^"]


def test_a_value_where_a_section_belongs():
    with pytest.raises(DefinitionError, match=r"'round' must be a section: write \[round\]"):
        parse_definition(f"round = 3\n{MINIMAL}", FILE)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", r"The section \[project\] is missing"),
        ('[project]\ntitle = "t"\n[data]\nsource = "text"\n', r"\[project\] needs name"),
        (MINIMAL.replace("digits", "Digits"), "name must be .*a-z"),
        (MINIMAL.replace("sklearn:digits", "cvs"), "source 'cvs' must be"),
        (MINIMAL.replace("sklearn:digits", "csv"), "source 'csv' needs files = 'data.csv'"),
        (MINIMAL + 'files = "a"\n', "remove files"),
        (MINIMAL.replace("sklearn:digits", "idx") + 'files = ["a"]\n', "two idx files"),
        (MINIMAL + "holdout = 0\n", "over 0 to 0.9"),
        (MINIMAL + 'delimiter = ";;"\n', "the one character"),
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
    assert definition.training.optimizer == Muon()
    assert (definition.training.batch_examples, definition.training.learning_rate) == (32, 0.02)
    assert (definition.round.units, definition.round.quorum) == (16, 12)
    assert definition.target is None
    assert definition.measured == {"tolerance", "tolerance_ceiling", "numerics", "shards_per_unit"}
    assert definition.folder == Path("p")


def test_options_of_the_optimizer_are_keys_of_training():
    text = f'{MINIMAL}[training]\noptimizer = "sgd"\nnesterov = true\nbatch = 8\n'
    training = parse_definition(text, FILE).training
    assert training.optimizer == SgdMomentum(nesterov=True)
    assert (training.learning_rate, training.batch_examples) == (0.05, 8)
    text = f'{MINIMAL}[training]\nmatrices = "*.weight"\n'
    assert parse_definition(text, FILE).training.optimizer == Muon(matrices=["*.weight"])


def test_what_the_file_gives_is_not_measured():
    text = f'{MINIMAL}[verification]\ntolerance = 0.5\nnumerics = "native"\n'
    definition = parse_definition(text, FILE)
    assert definition.measured == {"tolerance_ceiling", "shards_per_unit"}
    assert definition.verification.tolerance_ceiling >= 0.5


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


@pytest.mark.parametrize("struct", [*SECTIONS.values(), *OPTIMIZERS.values()])
def test_every_key_has_a_description(struct):
    assert all(key.text for key in keys_of(struct).values())


@pytest.mark.parametrize("example", ["digits", "pydoc-gpt", "fashion-mnist"])
def test_the_examples_are_valid(example):
    assert load_definition(ROOT / "examples" / example).target is not None
