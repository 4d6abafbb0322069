"""How unlike shards are, and how many of them a unit reads because of that."""

from __future__ import annotations

import numpy as np
import pytest

from pleb_project.check.likeness import ALIKE, Likeness, measure_likeness, shards_apart
from pleb_project.definition.sections import DataSection
from pleb_project.readers.blobs import BlobFolder
from pleb_project.readers.read import read_dataset


def classes(shards, each, of):
    """Return counts [shards, classes] of shards with `each` classes in turn, 100 examples."""
    counts = np.zeros((shards, of), np.int64)
    for number in range(shards):
        for k in range(each):
            counts[number, (each * number + k) % of] += 100 // each
    return counts


def test_two_classes_in_each_shard_are_far_apart_and_four_shards_are_nearly_alike():
    apart = shards_apart(classes(40, 2, 10), 8)
    np.testing.assert_allclose(apart[:5], [0.8, 0.6, 0.4, 0.2, 0.0], atol=0.06)
    assert Likeness("y", apart).enough == 4


@pytest.mark.parametrize("examples", [20, 200, 5000])
def test_chance_alone_is_no_difference(examples):
    generator = np.random.default_rng(0)
    counts = generator.multinomial(examples, np.full(10, 0.1), size=30)
    apart = shards_apart(counts, 4)
    assert max(apart) < 0.06
    assert Likeness("y", apart).enough == 1


def test_one_who_cannot_become_alike_gets_half_as_far_apart():
    assert Likeness("y", (0.9, 0.7, 0.5, 0.44, 0.4)).enough == 4
    assert Likeness("y", (0.9, 0.8, 0.7)).enough == 1
    assert Likeness("", ()).enough == 1
    assert Likeness("", ()).of(3) == 0.0


def write(tmp_path, labels):
    generator = np.random.default_rng(1)
    np.savez(
        tmp_path / "d.npz",
        x=generator.standard_normal((len(labels), 3)).astype(np.float32),
        y=labels.astype(np.int64),
    )


def likeness_of(tmp_path, **options):
    data = DataSection(**options)
    blobs = BlobFolder(tmp_path / "blobs")
    return measure_likeness(read_dataset(data, tmp_path, blobs), blobs)


def test_shuffled_rows_are_alike(tmp_path):
    write(tmp_path, np.arange(2000) % 10)
    found = likeness_of(tmp_path, source="npz", files=("d.npz",))
    assert found.enough == 1
    assert found.of(1) < ALIKE / 2


def test_shards_by_group_are_told_apart_by_their_labels(tmp_path):
    lines = [f"{k % 5},{k % 7},{k % 5}" for k in range(2000)]
    (tmp_path / "d.csv").write_text("site,a,label\n" + "\n".join(lines) + "\n")
    found = likeness_of(
        tmp_path, source="csv", files=("d.csv",), shard_by="site", shard_examples=100
    )
    assert found.of(1) > 0.5
    assert found.enough > 1
    assert found.of(found.enough) <= ALIKE


def test_text_is_compared_by_its_tokens(tmp_path):
    chapters = [bytes([65 + 8 * n + i % 8 for i in range(40_000)]) for n in range(4)]
    (tmp_path / "a.txt").write_bytes(b"".join(chapters))
    found = likeness_of(tmp_path, source="text", files=("a.txt",), window=16)
    assert found.name == "x"
    assert found.of(1) < 0.5, "blocks are shuffled"


def test_one_shard_is_like_itself(tmp_path):
    write(tmp_path, np.arange(60) % 10)
    assert likeness_of(tmp_path, source="npz", files=("d.npz",)).enough == 1
