"""What `check` says of a project with noise, before anybody has trained it."""

from __future__ import annotations

import sys

import msgspec
import pytest

from pleb_project.check.draft import make_draft
from pleb_project.check.privacy import planned_epsilon, privacy_words
from pleb_project.definition.load import parse_definition
from pleb_project.readers.blobs import BlobFolder
from pleb_shared.errors import InputError
from pleb_shared.protocol.privacy import epsilon_of
from pleb_shared.protocol.project import Privacy, Round
from tests.conformance.example_metadata import example_metadata

NOISE = Privacy(clip_norm=1.0, noise_multiplier=4.0, delta=1e-5)
MODEL = """
from torch import nn
from torch.nn.functional import cross_entropy


def model():
    middle = {middle}
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), middle, nn.Linear(8, 10))


def loss(model, batch):
    return cross_entropy(model(batch["x"]), batch["y"])


def evaluate(model, batch):
    return {{"loss": loss(model, batch)}}
"""


def described(privacy=NOISE):
    before = example_metadata("2" * 64)  # nine versions
    return msgspec.structs.replace(before, privacy=privacy, round=Round(units=4, quorum=4))


def test_epsilon_is_that_of_all_planned_versions():
    # 36 units over 12 shards: each is read three times
    assert planned_epsilon(described(), NOISE, 12) == pytest.approx(
        epsilon_of(4.0 / (2 * 3**0.5), 1e-5)
    )
    (words,) = privacy_words(described(), 12)
    assert "at version 9" in words
    assert "what one shard holds" in words
    assert "not against volunteers" in words
    owner = msgspec.structs.replace(NOISE, owner_shards=2)
    assert planned_epsilon(described(owner), owner, 12) > planned_epsilon(described(), NOISE, 12)
    assert "at most 2 shards" in next(privacy_words(described(owner), 12))
    assert [*privacy_words(described(None), 12)] == []


def test_without_the_library_check_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    (words,) = privacy_words(described(), 12)
    assert "pip install 'pleb-cluster[privacy]'" in words


def drafted(tmp_path, middle, noise):
    (tmp_path / "model.py").write_text(MODEL.format(middle=middle), "utf-8")
    (tmp_path / "blobs").mkdir()
    text = f"""
        [project]
        name = "noisy"
        [data]
        source = "sklearn:digits"
        [privacy]
        clip_norm = 1.0
        noise_multiplier = 2.0
        {noise}
    """
    definition = parse_definition(text, tmp_path / "project.toml")
    return make_draft(definition, BlobFolder(tmp_path / "blobs")).metadata


def test_what_only_the_exported_project_shows_is_refused_too(tmp_path):
    for number, (middle, noise, sentence) in enumerate(
        [
            ("nn.BatchNorm1d(8)", "", "buffers that training changes"),
            ("nn.SiLU()", "delta = 0.1", "delta is not below one over"),
        ]
    ):
        place = tmp_path / str(number)
        place.mkdir()
        with pytest.raises(InputError, match=sentence):
            drafted(place, middle, noise)
    place = tmp_path / "good"
    place.mkdir()
    metadata = drafted(place, "nn.SiLU()", "")
    assert metadata.privacy == Privacy(clip_norm=1.0, noise_multiplier=2.0)
    assert metadata.round.quorum == metadata.round.units
