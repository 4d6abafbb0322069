"""Data that memory does not hold: the same shards, whatever the memory and however often killed."""

from __future__ import annotations

import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pleb_project.definition.sections import DataSection
from pleb_project.readers import gathered, piles, progress, rows, windows
from pleb_project.readers.blobs import BlobFolder
from pleb_project.readers.piles import Piles
from pleb_project.readers.read import read_dataset
from pleb_shared.errors import InputError, PlebError
from pleb_shared.tensors.layout import load_tensors
from pleb_system.lock import hold_lock

RECORD = np.dtype([("pile", "u1"), ("key", "<u8"), ("place", "<i8")])


def records(pile, keys, start=0):
    found = np.empty(len(keys), RECORD)
    found["pile"], found["key"] = pile, keys
    found["place"] = np.arange(start, start + len(keys))
    return found


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([1, 5, 2**60]), st.sampled_from([1, 400, 10**6]))
def test_records_come_back_sorted_whatever_the_memory(tmp_path_factory, seed, distinct, memory):
    rng = np.random.default_rng(seed)
    whole = records(rng.integers(0, 5, 300), rng.integers(0, distinct, 300, np.uint64))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(piles, "MEMORY_BYTES", memory)
        patch.setattr(piles, "_YIELDED_BYTES", 200)
        sorter = Piles(tmp_path_factory.mktemp("piles"), "a", RECORD)
        for start in range(0, 300, 30):
            sorter.add(whole[start : start + 30])
        found = np.concatenate([part for _, part in sorter.sorted()])
    assert (found == whole[np.lexsort((whole["key"], whole["pile"]))]).all()


@pytest.fixture
def small_memory(monkeypatch):
    """As if the data were thousands of times larger (and the disk as quick as memory)."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(piles, "MEMORY_BYTES", 3000)
    monkeypatch.setattr(piles, "_YIELDED_BYTES", 500)
    for module in (gathered, rows, windows, progress):
        monkeypatch.setattr(module, "CHECKPOINT_BYTES", 4000)


def write_table(folder, count=1000):
    table = pa.table(
        {
            "x": pa.array(np.arange(count * 4).reshape(count, 4).tolist(), pa.list_(pa.int64(), 4)),
            "speaker": [f"s{n % 7}" for n in range(count)],
            "y": [n % 5 for n in range(count)],
        }
    )
    for number in range(4):
        part = table[number * count // 4 : (number + 1) * count // 4]
        pq.write_table(part, folder / f"{number}.parquet", row_group_size=50)


class Killed(Exception):
    """The process is gone."""


SETTINGS = {
    "plain": {},
    "by speaker": {"split_by": "speaker", "shard_by": "speaker"},
    "own holdout": {"files": ("[012].parquet",), "holdout_files": ("3.parquet",)},
    "a table": {"target": "y", "drop": ("x",)},
}


@pytest.mark.parametrize("changes", SETTINGS.values(), ids=SETTINGS)
def test_a_reading_killed_again_and_again_gives_the_same_shards(tmp_path, monkeypatch, changes):
    write_table(tmp_path)
    given = {"files": ("*.parquet",), "shard_examples": 90, "drop": ("speaker",)} | changes
    if "split_by" in changes:
        given["drop"] = ()
    if "drop" in changes:
        given["drop"] = ("x", "speaker")
    data = DataSection(source="parquet", **given)
    expected = read_dataset(data, tmp_path, BlobFolder(tmp_path / "expected"))
    monkeypatch.setattr(os, "fsync", lambda _: None)
    for name, value in (("MEMORY_BYTES", 3000), ("_YIELDED_BYTES", 500)):
        monkeypatch.setattr(piles, name, value)
    for module in (gathered, rows):
        monkeypatch.setattr(module, "CHECKPOINT_BYTES", 1500 if "target" in changes else 8000)

    blobs = BlobFolder(tmp_path / "blobs")
    opened, kills, found = 0, 0, None
    save = progress.Work.save

    def killed_after_saving(work):
        nonlocal opened
        save(work)
        opened += 1
        if opened % 3 == 0:
            raise Killed

    monkeypatch.setattr(progress.Work, "save", killed_after_saving)
    while found is None:
        try:
            found = read_dataset(data, tmp_path, blobs)
        except Killed:
            kills += 1
    assert kills > 3, "nothing was interrupted"
    assert found == expected


def test_what_was_read_before_a_kill_is_not_read_again(tmp_path, monkeypatch, small_memory):
    write_table(tmp_path)
    data = DataSection(source="parquet", files=("*.parquet",), drop=("speaker",))
    blobs = BlobFolder(tmp_path / "blobs")
    seen = []

    def stop(sentence):
        seen.append(sentence)
        if len(seen) == 8:
            raise Killed

    with pytest.raises(Killed):
        read_dataset(data, tmp_path, blobs, stop)
    said: list[str] = []
    read_dataset(data, tmp_path, blobs, said.append)
    again = [sentence for sentence in said if sentence.startswith("Read")]
    assert len(again) <= 6
    assert "0.parquet" in seen[0]
    assert not any("0.parquet" in sentence for sentence in again)


def test_the_same_data_are_not_read_twice(tmp_path, monkeypatch):
    write_table(tmp_path, 100)
    data = DataSection(source="parquet", files=("*.parquet",), drop=("speaker",))
    blobs = BlobFolder(tmp_path / "blobs")
    first = read_dataset(data, tmp_path, blobs)
    monkeypatch.setattr(gathered.Gathered, "read", None)
    assert read_dataset(data, tmp_path, blobs) == first
    monkeypatch.undo()

    blobs.path(first.shards.train[0].digest).unlink()
    assert read_dataset(data, tmp_path, blobs) == first, "a shard that was lost is made again"

    np.save(tmp_path / "x.npy", np.zeros(100))
    data = DataSection(source="npy", files=("x.npy",))
    zeros = read_dataset(data, tmp_path, blobs)
    np.save(tmp_path / "x.npy", np.ones(100))
    assert read_dataset(data, tmp_path, blobs) != zeros, "the file has changed"


def test_a_long_text_is_written_piece_by_piece_and_goes_on_after_a_kill(
    tmp_path, monkeypatch, small_memory
):
    text = np.random.default_rng(0).integers(0, 256, 100_000, np.uint8).tobytes()
    (tmp_path / "a.txt").write_bytes(text)
    data = DataSection(source="text", files=("a.txt",), window=8, shard_examples=1000)
    blobs = BlobFolder(tmp_path / "blobs")
    written = []

    def stop(sentence):
        written.append(sentence)
        if len(written) == 5:
            raise Killed

    with pytest.raises(Killed):
        read_dataset(data, tmp_path, blobs, stop)
    before = len(list(blobs.folder.iterdir()))
    found = read_dataset(data, tmp_path, blobs, written.append)
    assert found == read_dataset(data, tmp_path, BlobFolder(tmp_path / "again"))
    assert before > 20
    train, holdout = (
        b"".join(load_tensors(blobs.get(shard.digest))["x"].tobytes() for shard in shards)
        for shards in (found.shards.train, found.shards.holdout)
    )
    assert train + holdout != text, "training data are shuffled in blocks"
    assert sorted(train) == sorted(text[: len(train)])
    assert holdout == text[len(train) :]


def test_two_commands_do_not_read_the_same_projects_data_at_once(tmp_path):
    write_table(tmp_path, 100)
    blobs = BlobFolder(tmp_path / "blobs")
    (blobs.folder / "reading").mkdir()
    data = DataSection(source="parquet", files=("*.parquet",), drop=("speaker",))
    with (
        hold_lock(blobs.folder / "reading" / "lock", holder="test", remedy="wait"),
        pytest.raises(PlebError, match="wait for it"),
    ):
        read_dataset(data, tmp_path, blobs)


# -- which examples go where --------------------------------------------------------------------


def write_people(folder, counts):
    """Write examples x = (person, number) of persons who have so many."""
    people = [f"p{person}" for person, count in enumerate(counts) for _ in range(count)]
    np.savez(
        folder / "d.npz",
        x=np.arange(len(people)),
        who=np.array(people),
        label=np.arange(len(people)) % 4 == 0,
    )
    return np.array(people)


def of(blobs, shards):
    return [load_tensors(blobs.get(shard.digest)) for shard in shards]


@pytest.mark.parametrize("given", [{}, {"holdout_groups": ("p2", "p5")}])
def test_a_group_is_never_divided(tmp_path, given):
    people = write_people(tmp_path, [40] * 10)
    blobs = BlobFolder(tmp_path / "blobs")
    data = DataSection(source="npz", files=("d.npz",), split_by="who", holdout=0.2, **given)
    found = read_dataset(data, tmp_path, blobs)
    assert [spec.name for spec in found.spec.inputs] == ["x", "label"]
    train = {people[n] for shard in of(blobs, found.shards.train) for n in shard["x"]}
    kept = {people[n] for shard in of(blobs, found.shards.holdout) for n in shard["x"]}
    assert not train & kept
    assert (len(train), len(kept)) == (8, 2)
    assert not given or kept == {"p2", "p5"}


def test_shards_of_one_group_each_lie_side_by_side_in_turns(tmp_path):
    people = write_people(tmp_path, [90, 30, 150, 5])
    blobs = BlobFolder(tmp_path / "blobs")
    data = DataSection(source="npz", files=("d.npz",), shard_by="who", shard_examples=30)
    found = read_dataset(data, tmp_path, blobs)
    owners = []
    for shard in of(blobs, found.shards.train):
        (owner,) = {str(people[n]) for n in shard["x"]}
        owners.append(owner)
    assert owners[:4] == ["p0", "p1", "p2", "p3"], "a round begins with as many groups as there are"
    assert sorted(set(owners)) == ["p0", "p1", "p2", "p3"]
    assert abs(found.holdout_examples - 27) <= 1
    assert "shards of one who each: 4 of them" in found.notes


def test_shards_by_group_beside_a_holdout_in_files_of_its_own(tmp_path):
    write_people(tmp_path, [90, 30])
    (tmp_path / "d.npz").rename(tmp_path / "train.npz")
    write_people(tmp_path, [7, 5, 9])
    blobs = BlobFolder(tmp_path / "blobs")
    data = DataSection(
        source="npz",
        files=("train.npz",),
        holdout_files=("d.npz",),
        shard_by="who",
        shard_examples=30,
    )
    found = read_dataset(data, tmp_path, blobs)
    assert [shard.examples for shard in found.shards.train] == [30, 30, 30, 30]
    kept = np.concatenate([shard["x"] for shard in of(blobs, found.shards.holdout)])
    assert kept.tolist() == list(range(21))


def test_the_holdout_has_the_same_share_of_each_class(tmp_path):
    write_people(tmp_path, [400])
    blobs = BlobFolder(tmp_path / "blobs")
    data = DataSection(
        source="npz", files=("d.npz",), stratify_by="label", drop=("who",), holdout=0.1
    )
    found = read_dataset(data, tmp_path, blobs)
    labels = np.concatenate([shard["label"] for shard in of(blobs, found.shards.holdout)])
    assert (labels.sum(), len(labels)) == (10, 40)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"split_by": "name"}, "there is no 'name' to group by; there are x, who, label"),
        (
            {"split_by": "who", "holdout_groups": ("p9",)},
            "no example has it as 'who'; there are p0",
        ),
        ({"split_by": "who", "holdout_groups": ("p0", "p1")}, "cannot be split"),
    ],
)
def test_bad_groups(tmp_path, changes, sentence):
    write_people(tmp_path, [20, 20])
    data = DataSection(source="npz", files=("d.npz",), **changes)
    with pytest.raises(InputError, match=sentence):
        read_dataset(data, tmp_path, BlobFolder(tmp_path / "blobs"))


def test_files_are_grouped_by_a_part_of_their_path(tmp_path):
    from tests.unit.project.test_data_sources import picture_folder

    picture_folder(tmp_path / "train")
    data = DataSection(source="images", files=("train",), split_by="(s[0-9])_")
    found = read_dataset(data, tmp_path, BlobFolder(tmp_path / "blobs"))
    assert found.holdout_examples == 6, "one speaker of four in both classes"
    data = DataSection(source="images", files=("train",), split_by="(s[0-9]*)x")
    with pytest.raises(InputError, match="finds no group in this path"):
        read_dataset(data, tmp_path, BlobFolder(tmp_path / "blobs"))
