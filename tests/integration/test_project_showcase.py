"""[showcase] of a project file: what becomes of it, what a version answers, what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from msgspec import UNSET

from pleb_project.check.draft import make_draft
from pleb_project.definition.load import load_definition
from pleb_project.publish.rules import blobs_of
from pleb_project.readers.blobs import BlobFolder
from pleb_shared.errors import GraphError, InputError, PlebError, TrainingError
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.project import epoch_changes
from pleb_shared.protocol.showcase import (
    Card,
    NumbersInput,
    PictureInput,
    ShownClasses,
    ShownNumbers,
    ShownText,
    TextInput,
    fault_of,
)
from pleb_shared.tensors.layout import load_tensors
from pleb_shared.training.showcase import show
from tests.unit.project.test_data_sources import picture_folder

HEAD = '[project]\nname = "small"\n\n[data]\n'
MODEL = """
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

def model():
    return {model}

def loss(model, batch):
    return {loss}

def evaluate(model, batch):
    return {{"loss": loss(model, batch)}}
"""
CLASSES = 'cross_entropy(model(batch["x"]), batch["y"])'
DIGITS = {
    "data": 'source = "sklearn:digits"',
    "model": "nn.Sequential(nn.Flatten(), nn.Linear(64, 10))",
    "loss": CLASSES,
}
GPT = """
import torch
from torch import nn
from torch.nn.functional import cross_entropy

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(256, 16)
        self.mix = nn.{mix}
        self.head = nn.Linear(16, {out})

    def forward(self, x):
        return self.head(self.mix(self.embedding(x))[0])

def model():
    return Model()

def loss(model, batch):
    return cross_entropy(model(batch["x"]).flatten(0, 1), batch["y"].flatten() % {out})

def evaluate(model, batch):
    return {{"loss": loss(model, batch)}}
"""
TEXT = 'source = "text"\nfiles = "text.txt"\nwindow = 16\nholdout = 0.3'


def project(folder, data, *, showcase, model="", loss="", code=None, more=""):
    """Write a project and return its definition."""
    (folder / "model.py").write_text((code or MODEL.format(model=model, loss=loss)) + more)
    (folder / "project.toml").write_text(f"{HEAD}{data}\n\n[showcase]\n{showcase}\n")
    return load_definition(folder)


def made(folder, definition):
    """Return the draft, its card and the answer of version 0."""
    blobs = BlobFolder(folder / "blobs")
    draft = make_draft(definition, blobs)
    asked = draft.metadata.showcase
    assert asked is not UNSET
    card = strict_json.decode(blobs.get(asked.card.digest), Card, most_bytes=2**20)
    return draft, card, answer(draft, blobs)


def answer(draft, blobs, version=None):
    graph = draft.exported.compiled(draft.exported.showcase_graph)
    shard = load_tensors(blobs.get(draft.dataset.shards.holdout[0].digest))
    initial = load_tensors(draft.exported.initial) if version is None else version
    return show(graph, draft.metadata, draft.metadata.showcase, initial, [shard])


def test_pictures_get_the_probabilities_of_their_classes(tmp_path):
    definition = project(tmp_path, showcase="examples = 3", **DIGITS)
    draft, card, shown = made(tmp_path, definition)
    asked = draft.metadata.showcase
    assert (asked.kind, asked.width, asked.examples) == ("classes", 10, [0, 1, 2])
    assert isinstance(shown, ShownClasses)
    assert fault_of(asked, shown) == ""
    [picture] = card.examples[0].inputs
    assert isinstance(picture, PictureInput)
    assert (picture.height, picture.width, picture.channels) == (8, 8, 1)
    held = load_tensors(draft_blob(tmp_path, draft.dataset.shards.holdout[0].digest))
    pixels = np.frombuffer(picture.pixels, np.uint8).reshape(8, 8)
    np.testing.assert_allclose(pixels / 255, held["x"][0], atol=1 / 255)
    assert [example.truth for example in card.examples] == [[float(y)] for y in held["y"][:3]]
    named = {blob.digest for blob in blobs_of(draft.metadata, [])}
    assert {asked.graph.digest, asked.card.digest} <= named
    model = torch.nn.Linear(64, 10)
    state = load_tensors(draft.exported.initial)
    model.load_state_dict({n.removeprefix("1."): torch.tensor(a) for n, a in state.items()})
    chances = model(torch.tensor(held["x"][:3]).flatten(1)).softmax(dim=1)
    for row, wanted in zip(shown.rows, chances, strict=True):
        likely, order = wanted.sort(descending=True)
        assert [number for number, _ in row] == order[:5].tolist()
        assert [chance for _, chance in row] == pytest.approx(likely[:5].tolist(), abs=2e-6)


def draft_blob(folder, digest):
    return BlobFolder(folder / "blobs").get(digest)


def test_a_function_of_the_file_says_what_is_shown(tmp_path):
    more = '\ndef showcase(model, batch):\n    return model(1 - batch["x"])[:, :2].softmax(dim=1)\n'
    definition = project(
        tmp_path, showcase='indices = [5]\nclasses = ["a", "b"]', more=more, **DIGITS
    )
    draft, card, shown = made(tmp_path, definition)
    assert draft.metadata.showcase.examples == [5]
    assert card.classes == ["a", "b"]
    assert isinstance(shown, ShownClasses)
    assert len(shown.rows[0]) == 2


def test_colours_come_small(tmp_path):
    picture_folder(tmp_path / "pictures")
    data = 'source = "images"\nfiles = "pictures"\nimage_size = 100\nholdout = 0.5'
    code = MODEL.format(
        model="nn.Sequential(nn.AvgPool2d(10), nn.Flatten(), nn.Linear(300, 2))",
        loss='cross_entropy(model(batch["x"].float() / 255), batch["y"])',
    )
    more = '\ndef showcase(model, batch):\n    return model(batch["x"].float() / 255)\n'
    definition = project(tmp_path, data, showcase="examples = 2", code=code, more=more)
    _, card, _ = made(tmp_path, definition)
    [picture] = card.examples[0].inputs
    assert isinstance(picture, PictureInput)
    assert picture.channels == 3
    assert 16 <= picture.height <= 48


def test_rows_of_numbers_and_a_number_as_the_truth(tmp_path):
    definition = project(
        tmp_path,
        'source = "sklearn:diabetes"',
        showcase="examples = 2",
        model="nn.Sequential(nn.Linear(10, 1), nn.Flatten(0))",
        loss='mse_loss(model(batch["x"]), batch["y"])',
    )
    draft, card, shown = made(tmp_path, definition)
    assert draft.metadata.showcase.kind == "numbers"
    assert isinstance(shown, ShownNumbers)
    [numbers] = card.examples[0].inputs
    assert isinstance(numbers, NumbersInput)
    assert (len(numbers.values), numbers.more) == (8, 2)
    assert 20 < card.examples[0].truth[0] < 400


def test_texts_are_shown_as_texts(tmp_path):
    lines = [{"text": "good day" if n % 2 else "what a day", "y": n % 2} for n in range(60)]
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, lines)))
    code = MODEL.format(
        model="nn.Sequential(nn.Embedding(256, 4), nn.Flatten(), nn.Linear(48, 2))",
        loss='cross_entropy(model(batch["text"].long()), batch["y"])',
    )
    more = '\ndef showcase(model, batch):\n    return model(batch["text"].long())\n'
    data = 'source = "jsonl"\nfiles = "d.jsonl"\nmax_length = 12'
    definition = project(tmp_path, data, showcase="examples = 4", code=code, more=more)
    _, card, _ = made(tmp_path, definition)
    texts = {one.text for example in card.examples for one in example.inputs}
    assert all(isinstance(one, TextInput) for example in card.examples for one in example.inputs)
    assert texts == {"good day", "what a day"}


def test_a_model_continues_a_prompt_the_same_way_each_time(tmp_path):
    (tmp_path / "text.txt").write_text("to be or not to be, that is the question. " * 40)
    code = GPT.format(mix="GRU(16, 16, batch_first=True)", out=256)
    definition = project(tmp_path, TEXT, showcase='prompt = "to be"\ntokens = 30', code=code)
    draft, card, shown = made(tmp_path, definition)
    blobs = BlobFolder(tmp_path / "blobs")
    assert isinstance(shown, ShownText)
    assert (card.prompt, len(shown.tokens)) == ("to be", 30)
    assert answer(draft, blobs) == shown
    version = {n: a.copy() for n, a in load_tensors(draft.exported.initial).items()}
    version["head.bias"][:] = 0
    version["head.bias"][ord("!")] = 1000
    assert answer(draft, blobs, version).tokens == [ord("!")] * 30
    version["head.bias"][0] = np.nan
    with pytest.raises(TrainingError, match="not a finite number"):
        answer(draft, blobs, version)


def test_without_temperature_the_likeliest_byte_follows(tmp_path):
    (tmp_path / "text.txt").write_text("to be or not to be, that is the question. " * 40)
    code = GPT.format(mix="GRU(16, 16, batch_first=True)", out=256)
    showcase = 'prompt = "a longer prompt than the window has"\ntokens = 3\ntemperature = 0'
    draft, _, shown = made(tmp_path, project(tmp_path, TEXT, showcase=showcase, code=code))
    graph = draft.exported.compiled(draft.exported.showcase_graph)
    version = {n: torch.tensor(a) for n, a in load_tensors(draft.exported.initial).items()}
    said = list(b"a longer prompt than the window has")
    for byte in shown.tokens:
        x = torch.tensor([said[-16:]])
        inputs = {"x": x, "y": torch.zeros_like(x)}
        scores = next(iter(graph.run(version, version, inputs, None).values()))
        assert byte == int(scores[0, -1].argmax())
        said.append(byte)


@pytest.mark.parametrize(
    ("showcase", "sentence"),
    [
        ('prompt = "a"', 'a prompt needs source = "text"'),
        ("examples = 0", "from 1 to 16"),
        ("examples = 17", "from 1 to 16"),
        ("examples = 2\nindices = [1]", "remove examples"),
        ("indices = [100000]", "the holdout's first shard has the examples 0 to"),
        ('classes = ["a", "b"]', "has 2 names, but the model has 10 scores"),
    ],
)
def test_what_cannot_be_shown_is_said_at_the_key(tmp_path, showcase, sentence):
    with pytest.raises(InputError, match=sentence):
        made(tmp_path, project(tmp_path, showcase=showcase, **DIGITS))


@pytest.mark.parametrize(
    ("data", "showcase", "sentence"),
    [
        ('source = "text"', "examples = 2", "needs prompt"),
        ('source = "text"', 'prompt = "a"\nclasses = ["a"]', "does not go with prompt"),
        ('source = "tokens"\nfiles = "a.bin"', 'prompt = "a"', "no tokenizer"),
    ],
)
def test_a_text_needs_a_prompt_and_bytes(tmp_path, data, showcase, sentence):
    with pytest.raises(InputError, match=sentence):
        project(tmp_path, data, showcase=showcase, code=GPT)


@pytest.mark.parametrize(
    ("mix", "out", "tokens", "sentence"),
    [
        ("GRU(16, 16, batch_first=True)", 255, 10, r"scores of the next byte at each place"),
        ("GRU(16, 8, batch_first=True, bidirectional=True)", 256, 10, "later bytes change them"),
    ],
)
def test_a_model_that_cannot_continue_a_text_is_refused(tmp_path, mix, out, tokens, sentence):
    (tmp_path / "text.txt").write_text("to be or not to be, that is the question. " * 40)
    showcase = f'prompt = "a"\ntokens = {tokens}'
    definition = project(tmp_path, TEXT, showcase=showcase, code=GPT.format(mix=mix, out=out))
    with pytest.raises(InputError, match=sentence):
        made(tmp_path, definition)


@pytest.mark.parametrize(
    ("body", "error", "sentence"),
    [
        ("return model(batch['x']).mean()", GraphError, r"one tensor \[batch, \.\.\.\]"),
        ("return model(batch['x']).tolist()", GraphError, r"one tensor \[batch, \.\.\.\]"),
        ("return model(batch['x'])[:, None]", InputError, "return the scores of classes"),
        ("return model(batch['z'])", PlebError, "no 'z'|'z'"),
        ("return torch.randn(20, 10)", PlebError, "showcase"),
    ],
)
def test_a_function_that_shows_nothing_is_refused(tmp_path, body, error, sentence):
    more = f"\ndef showcase(model, batch):\n    {body}\n"
    definition = project(tmp_path, showcase="examples = 2", more=more, **DIGITS)
    with pytest.raises(error, match=sentence):
        made(tmp_path, definition)


def test_a_model_that_takes_more_than_its_first_input_asks_for_a_function(tmp_path):
    model = "nn.Bilinear(64, 64, 10)"
    loss = 'cross_entropy(model(batch["x"].flatten(1), batch["x"].flatten(1)), batch["y"])'
    parts = DIGITS | {"model": model, "loss": loss}
    with pytest.raises(InputError, match="write `def showcase"):
        made(tmp_path, project(tmp_path, showcase="examples = 2", **parts))


def test_a_showcase_that_costs_more_than_a_small_part_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("pleb_project.check.showcase.affordable_flops", lambda whole: whole // 50)
    with pytest.raises(InputError, match="of an evaluation's operations: write examples = 3"):
        made(tmp_path, project(tmp_path, showcase="examples = 8", **DIGITS))


def test_a_running_project_may_get_another_showcase(tmp_path):
    first, _, _ = made(tmp_path, project(tmp_path, showcase="examples = 2", **DIGITS))
    second, _, _ = made(tmp_path, project(tmp_path, showcase="examples = 3", **DIGITS))
    assert first.metadata.showcase != second.metadata.showcase
    assert epoch_changes(first.metadata, second.metadata) == []
