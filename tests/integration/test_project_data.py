"""A small real project of every kind of data: read, exported, and trained for a few steps."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pleb_project.check.draft import make_draft
from pleb_project.check.learning import probe_step
from pleb_project.definition.load import load_definition
from pleb_project.readers.blobs import BlobFolder
from tests.unit.project.test_data_sources import (
    example,
    picture_folder,
    save_to_disk,
    sound_folder,
    tar,
)

MODEL = """
import torch
from torch import nn
from torch.nn.functional import cross_entropy

class Model(nn.Module):
    def __init__(self, classes):
        super().__init__()
        {layers}
        self.head = nn.Linear({width}, classes)

    def forward(self, batch):
        {forward}

def model(classes={classes}):
    return Model(classes)

def loss(model, batch):
    return cross_entropy(model(batch), batch["{target}"])

def evaluate(model, batch):
    scores = model(batch)
    right = scores.argmax(dim=1) == batch["{target}"]
    return {{"loss": cross_entropy(scores, batch["{target}"]), "accuracy": right.float().mean()}}
"""


def flat(name, width, classes, target="y"):
    """Return a model of one flat input."""
    forward = f'return self.head(batch["{name}"].flatten(1).float())'
    return MODEL.format(layers="", width=width, classes=classes, target=target, forward=forward)


def of_tokens(name, classes, target):
    """Return a model of padded tokens, which leaves out the padding by their lengths."""
    forward = (
        f'states = self.embedding(batch["{name}"].long())\n'
        f'        mask = torch.arange(6) < batch["{name}_length"][:, None]\n'
        "        total = (states * mask[:, :, None]).sum(dim=1)\n"
        f'        return self.head(total / batch["{name}_length"][:, None].clamp(min=1))'
    )
    layers = "self.embedding = nn.Embedding(256, 8)"
    return MODEL.format(layers=layers, width=8, classes=classes, target=target, forward=forward)


def parquet_of_tokens(folder):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    tokens = [(rng.integers(0, 100, 1 + n % 9) + 100 * y).tolist() for n, y in enumerate(labels)]
    pq.write_table(pa.table({"tokens": tokens, "label": labels}), folder / "d.parquet")


def json_lines(folder):
    lines = [{"text": "good" if n % 2 else "bad", "label": n % 2} for n in range(200)]
    (folder / "d.jsonl").write_text("\n".join(map(json.dumps, lines)))


def table(folder):
    rows = [{"age": n, "work": "ab"[n % 2], "pay": ("low", "high")[n % 2]} for n in range(200)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "d.parquet")


def archive(folder):
    tar(folder / "0.tar", [file for n in range(80) for file in example(n)])


def saved(folder):
    save_to_disk(
        folder / "set",
        {"input_ids": [[n, 1, n % 2] for n in range(100)], "labels": [n % 2 for n in range(100)]},
    )


def tokens(folder):
    (np.arange(4000) * 7 % 300).astype("<u2").tofile(folder / "t.bin")


LANGUAGE_MODEL = """
from torch import nn
from torch.nn.functional import cross_entropy

def model():
    return nn.Sequential(nn.Embedding(300, 8), nn.Linear(8, 300))

def loss(model, batch):
    return cross_entropy(model(batch["x"]).flatten(0, 1), batch["y"].flatten())

def evaluate(model, batch):
    return {"loss": loss(model, batch)}
"""

KINDS = {
    "parquet": (
        parquet_of_tokens,
        'files = "d.parquet"\nmax_length = 6',
        of_tokens("tokens", 2, "label"),
    ),
    "table": (
        table,
        'files = "d.parquet"\ntarget = "pay"',
        flat("numbers", 1, 2),
    ),
    "jsonl": (json_lines, 'files = "d.jsonl"\nmax_length = 6', of_tokens("text", 2, "label")),
    "huggingface": (saved, 'files = "set"', flat("input_ids", 3, 2, "labels")),
    "images": (
        lambda folder: picture_folder(folder / "train", per_class=60),
        'files = "train"\nimage_size = 4\nsplit_by = "(s[0-9])_"',
        flat("x", 48, 2),
    ),
    "audio": (
        lambda folder: sound_folder(folder / "words"),
        'files = "words"\nmax_length = 12\nholdout = 0.2',
        flat("x", 12, 2),
    ),
    "webdataset": (archive, 'files = "*.tar"', flat("x", 48, 3)),
    "tokens": (tokens, 'files = "t.bin"\nvocabulary = 300\nwindow = 16', LANGUAGE_MODEL),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_project_of_every_kind_of_data_trains(tmp_path, kind):
    write, settings, model = KINDS[kind]
    write(tmp_path)
    source = "parquet" if kind == "table" else kind
    (tmp_path / "project.toml").write_text(
        f'[project]\nname = "small"\n[data]\nsource = "{source}"\n{settings}\n'
        '[training]\nbatch = 8\noptimizer = "adamw"\n'
    )
    (tmp_path / "model.py").write_text(model)
    blobs = BlobFolder(tmp_path / "blobs")
    draft = make_draft(load_definition(tmp_path), blobs)
    assert probe_step(draft, blobs) > 0
