"""The user's own data: read as the project declares, kept encrypted, made anew when they change."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from pleb_agent.cache.errors import CorruptBlobError
from pleb_agent.control.own_data import OwnDataControl
from pleb_agent.core.trust import _work_fault
from pleb_agent.journal.journal import Journal
from pleb_agent.journal.keys import KeyStore
from pleb_agent.loop.files import unsealed_metadata
from pleb_agent.own_data.order import Order, Outcome
from pleb_agent.own_data.prepare import prepare
from pleb_agent.own_data.store import OwnStore, clean_own, own_folder_of
from pleb_agent.own_data.watch import OwnData as Watched
from pleb_project.definition.load import parse_definition
from pleb_project.readers.blobs import BlobFolder
from pleb_project.readers.read import read_dataset
from pleb_shared.errors import InputError
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.messages import PayloadType
from pleb_shared.protocol.own_data import OwnData, OwnRange
from pleb_shared.protocol.project import OWN_SHARDS, InputSpec
from pleb_shared.protocol.signing import SigningKey, sign_payload
from pleb_shared.protocol.unit import ShardRange, Unit, UnitKind
from pleb_shared.tensors.layout import load_tensors
from pleb_system.reading.fingerprint import folder_fingerprint
from pleb_system.reading.own_folder import OwnFolder
from tests.conformance.example_metadata import example_metadata
from tests.unit.agent.own_files import DECLARED, PROJECT, researcher_writes, write_own
from tests.unit.agent.test_journal import new_project

SEED = bytes(range(32))
INPUTS = [
    InputSpec(name="x", dtype="float32", shape=[2]),
    InputSpec(name="y", dtype="int64", shape=[]),
]
NPZ = OwnData(reader="npz", ranges=[OwnRange(name="y", least=0, most=2)])


def read(folder, form, inputs):
    rows = list(OwnFolder(folder, form, inputs).chunks())
    return {name: np.concatenate([one[name] for one in rows]) for name in rows[0]}


def dataset_of(tmp_path, kind):
    folder = researcher_writes(tmp_path / "researcher", kind)
    definition = parse_definition(PROJECT.format(data=DECLARED[kind]), folder / "project.toml")
    return read_dataset(definition.data, folder, BlobFolder(tmp_path / "blobs"))


@pytest.mark.parametrize("kind", sorted(DECLARED))
def test_a_host_reads_its_files_as_the_researchers_are_read(tmp_path, kind):
    dataset = dataset_of(tmp_path, kind)
    spec = dataset.spec
    assert spec.own is not None
    blobs = BlobFolder(tmp_path / "blobs")
    shards = [*dataset.shards.train, *dataset.shards.holdout]
    published = [load_tensors(blobs.get(shard.digest)) for shard in shards]
    form = msgspec.json.decode(msgspec.json.encode(spec.own), type=OwnData)
    own = read(tmp_path / "researcher" / "data", form, spec.inputs)

    def in_order(rows):
        flat = [array.reshape(len(array), -1).astype(np.float64) for array in rows]
        return sorted(map(tuple, np.concatenate(flat, axis=1).tolist()))

    names = [one.name for one in spec.inputs]
    told = [np.concatenate([shard[name] for shard in published]) for name in names]
    assert [own[name].dtype for name in names] == [array.dtype for array in told]
    assert in_order([own[name] for name in names]) == in_order(told)


@pytest.mark.parametrize("kind", sorted(DECLARED))
def test_a_reading_that_is_remembered_says_the_same(tmp_path, kind):
    assert dataset_of(tmp_path, kind).spec == dataset_of(tmp_path, kind).spec


WRONG = {
    "csv_column": ("csv", "a.csv", b"age,kind\n1,cat\n", "has no column 'weight'"),
    "csv_number": ("csv", "a.csv", b"age,kind,weight,ill\n1,cat,heavy,no\n", "a.csv:2: 'heavy'"),
    "csv_value": ("csv", "a.csv", b"age,kind,weight,ill\n1,cow,2,no\n", "a.csv:2: 'cow'"),
    "csv_class": ("csv", "a.csv", b"age,kind,weight,ill\n1,cat,2,maybe\n", "a.csv:2: 'maybe'"),
    "csv_cells": (
        "csv",
        "a.csv",
        b"age,kind,weight,ill\n1,cat,2\n",
        "a.csv:2: the row has 3",
    ),
    "csv_bytes": ("csv", "a.csv", b"age,kind,weight,ill\n\xff\xfe,1,1,1\n", "is not a CSV file"),
    "jsonl_line": ("jsonl", "a.jsonl", b'{"x": [1, 2], "y": 0}\nnonsense\n', "a.jsonl:2"),
    "jsonl_shape": ("jsonl", "a.jsonl", b'{"x": [1, 2, 3], "y": 0}\n', "the shape [3]"),
    "jsonl_text": ("jsonl", "a.jsonl", b'{"x": ["a", 2], "y": 0}\n', "not a list of numbers"),
    "jsonl_ragged": ("jsonl", "a.jsonl", b'{"x": [[1], 2], "y": 0}\n', "not a list of numbers"),
    "jsonl_class": ("jsonl", "a.jsonl", b'{"x": [1, 2], "y": 7}\n', "from 0 to 2"),
    "jsonl_infinite": ("jsonl", "a.jsonl", b'{"x": [1e39, 2], "y": 1}\n', "a finite number"),
    "images_class": ("images", "cow/a.png", b"", "of the class 'cow'"),
    "images_broken": ("images", "cat/a.png", b"\x89PNG nonsense", "cannot be read as an image"),
    "npz_broken": ("npz", "a.npz", b"nonsense", "cannot be read as .npz"),
    "nothing": ("npz", "a.txt", b"", "has no file that ends in .npz"),
}


@pytest.mark.parametrize("name", sorted(WRONG))
def test_a_mistake_is_told_with_its_place_and_what_was_expected(tmp_path, name):
    kind, file, data, words = WRONG[name]
    spec = dataset_of(tmp_path, kind).spec
    path = tmp_path / "own" / file
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    assert spec.own is not None
    with pytest.raises(InputError) as caught:
        read(tmp_path / "own", spec.own, spec.inputs)
    assert words in str(caught.value)
    assert str(tmp_path / "own") in str(caught.value)


def test_an_image_of_another_size_is_refused_with_its_file(tmp_path):
    spec = dataset_of(tmp_path, "images").spec
    assert spec.own is not None
    stream = BytesIO()
    Image.new("L", (9, 9)).save(stream, "PNG")
    folder = tmp_path / "own" / "cat"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(stream.getvalue())
    with pytest.raises(InputError, match=r"a\.png.*this project reads \[1, 4, 4\]"):
        read(tmp_path / "own", spec.own, spec.inputs)


def test_a_pipe_among_the_files_holds_nobody_up(tmp_path):
    spec = dataset_of(tmp_path, "images").spec
    assert spec.own is not None
    folder = tmp_path / "own" / "cat"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "a.png")
    with pytest.raises(InputError, match="is no plain file"):
        read(tmp_path / "own", spec.own, spec.inputs)


def metadata_of(form=NPZ, number=1, batch=4):
    found = example_metadata("1" * 64)
    replace = msgspec.structs.replace
    return replace(
        found,
        number=number,
        data=replace(found.data, own=form, inputs=INPUTS),
        outer=replace(found.outer, combination="median"),
        training=replace(found.training, batch_examples=batch),
    )


def shards_of(store):
    found = []
    for turn in range(store.shards):
        stream = BytesIO()
        store.write_shard(turn, stream)
        found.append(load_tensors(stream.getvalue()))
    return found


def test_shards_have_every_example_once_and_nothing_lies_in_the_clear(tmp_path):
    own = write_own(tmp_path / "data", 40)
    store = OwnStore(tmp_path / "kept", SEED)
    asyncio.run(store.make(tmp_path / "data", metadata_of()))
    [shard] = shards_of(store)
    assert sorted(shard["x"][:, 0].tolist()) == sorted(own["x"][:, 0].tolist())
    order = np.argsort(shard["x"][:, 0])
    assert np.array_equal(shard["y"][order], own["y"][np.argsort(own["x"][:, 0])])
    kept = [path.read_bytes() for path in (tmp_path / "kept").rglob("*") if path.is_file()]
    assert kept
    for row in own["x"]:
        assert not any(row.tobytes() in data for data in kept)
    other = OwnStore(tmp_path / "kept", bytes(32))  # of another host
    with pytest.raises(CorruptBlobError):
        shards_of(other)
    assert store.shards == 0  # they are made again


def test_examples_are_spread_over_shards_by_lot(tmp_path):
    x = np.arange(400, dtype=np.float32).repeat(40_000 // 4).reshape(400, -1)
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data" / "a.npz", x=x, y=np.zeros(400, np.int64))
    target = tmp_path / "target"
    target.mkdir()
    inputs = [InputSpec(name="x", dtype="float32", shape=[10_000]), INPUTS[1]]
    order = Order(
        folder=str(tmp_path / "data"),
        form=OwnData(reader="npz"),
        inputs=inputs,
        batch_examples=8,
        key=SEED.hex(),
        target=str(target),
    )
    count = prepare(order)
    assert count == 4  # of 4 MiB at most
    assert sorted(path.name for path in target.iterdir()) == [f"shard-{n}" for n in range(4)]


def test_too_few_examples_and_a_wrong_one_are_refused_and_the_shards_before_stay(tmp_path):
    write_own(tmp_path / "data", 40)
    store = OwnStore(tmp_path / "kept", SEED)
    asyncio.run(store.make(tmp_path / "data", metadata_of()))
    with pytest.raises(InputError, match="has 40 examples; this project needs a batch of 41"):
        asyncio.run(store.make(tmp_path / "data", metadata_of(batch=41)))
    np.savez(tmp_path / "data" / "b.npz", x=np.zeros((1, 2), np.float32), y=np.array([3]))
    with pytest.raises(InputError, match=r"b\.npz.*'y' of example 1 there is 3.*from 0 to 2"):
        asyncio.run(store.make(tmp_path / "data", metadata_of()))
    assert len(shards_of(store)) == 1
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["shards"]


def test_a_process_that_is_killed_by_a_file_is_a_sentence(tmp_path, monkeypatch):
    write_own(tmp_path / "data", 40)
    store = OwnStore(tmp_path / "kept", SEED)
    command = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
    monkeypatch.setattr("pleb_agent.own_data.store.module_command", lambda *_, **__: command)
    with pytest.raises(InputError, match="the process that read it ended with -9"):
        asyncio.run(store.make(tmp_path / "data", metadata_of()))


def test_any_failure_of_a_library_is_a_sentence_of_the_process(tmp_path):
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data" / "a.npz", x=np.zeros((9, 2)), y=np.zeros(9, np.int64))
    order = Order(
        folder=str(tmp_path / "data"),
        form=NPZ,
        inputs=INPUTS,
        batch_examples=4,
        key=SEED.hex(),
        target=str(tmp_path / "nowhere"),
    )
    done = subprocess.run(
        [sys.executable, "-m", "pleb_agent.own_data.prepare"],
        input=msgspec.json.encode(order),
        capture_output=True,
        check=False,
    )
    outcome = msgspec.json.decode(done.stdout, type=Outcome)
    assert (done.returncode, done.stderr) == (0, b"")
    assert "cannot be read" in outcome.problem


def test_a_folder_is_read_again_when_it_has_changed_and_its_mistake_is_told(tmp_path):
    clock = [1000.0]
    chosen: list[Path | None] = [None]
    store = OwnStore(tmp_path / "kept", SEED)
    watched = Watched(store, lambda: chosen[0], lambda: clock[0])

    def look() -> tuple[bool, str]:
        clock[0] += 100
        asyncio.run(watched.refresh(metadata_of()))
        return watched.is_ready, watched.problem

    assert look() == (False, "")
    write_own(tmp_path / "data", 40)
    chosen[0] = tmp_path / "data"
    assert look() == (True, "")
    before = (tmp_path / "kept" / "shards" / "index.json").read_bytes()
    assert look() == (True, "")
    assert (tmp_path / "kept" / "shards" / "index.json").read_bytes() == before
    assert json.loads(before)["shards"] == 1
    (tmp_path / "data" / "a.npz").write_bytes(b"cut off")
    ready, problem = look()
    assert not ready
    assert problem.startswith("Your data cannot be used: ")
    write_own(tmp_path / "data", 20)
    assert look() == (True, "")
    [shard] = shards_of(store)
    assert len(shard["y"]) == 20
    chosen[0] = None
    assert look() == (False, "")


def test_a_fingerprint_follows_names_sizes_and_times(tmp_path):
    write_own(tmp_path, 4)
    first = folder_fingerprint(tmp_path)
    assert folder_fingerprint(tmp_path) == first
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.txt").write_text("b")
    assert folder_fingerprint(tmp_path) != first
    with pytest.raises(InputError, match="cannot be read"):
        folder_fingerprint(tmp_path / "nowhere")


def attached(tmp_path):
    """A journal with one attached project that trains on own data, and the keys."""
    metadata = metadata_of()
    sent = sign_payload(
        strict_json.encode(metadata), PayloadType.METADATA, SigningKey.from_bytes(SEED)
    )
    journal = Journal(tmp_path / "journal.sqlite")
    keys = KeyStore(tmp_path / "keys")
    keys.load_or_make("host.key")
    new = dataclasses.replace(new_project(), host_key_file="host.key", metadata=sent)
    return journal, keys, journal.add_project(new, 1.0)


def test_a_folder_is_chosen_shown_and_forgotten(tmp_path):
    journal, keys, row = attached(tmp_path)
    control = OwnDataControl(journal, keys, tmp_path / "work")
    assert "No folder" in control.show(row.name).sentence
    for wrong, words in (("data", "whole path"), (str(tmp_path / "none"), "cannot be read")):
        with pytest.raises(InputError, match=words):
            asyncio.run(control.choose(row.name, wrong))
    assert journal.own_folder(row.id) == ""
    write_own(tmp_path / "data", 40)
    view = asyncio.run(control.choose(row.name, str(tmp_path / "data")))
    assert view.folder == str(tmp_path / "data")
    assert "Nothing in it leaves this PC" in view.sentence
    assert own_folder_of(tmp_path / "work", row.id).exists()
    assert control.forget(row.name).folder == ""
    assert not own_folder_of(tmp_path / "work", row.id).exists()
    assert (tmp_path / "data" / "a.npz").exists()
    journal.close()


def test_a_folder_that_takes_long_to_read_is_chosen_and_read_later(tmp_path):
    journal, keys, row = attached(tmp_path)
    control = OwnDataControl(journal, keys, tmp_path / "work", patience_seconds=0.0)
    write_own(tmp_path / "data", 40)
    view = asyncio.run(control.choose(row.name, str(tmp_path / "data")))
    assert view.folder == str(tmp_path / "data")
    assert "is read" in view.sentence
    journal.close()


def test_a_unit_that_names_shards_is_refused_where_data_are_the_hosts():
    unit = Unit(
        kind=UnitKind.TRAIN,
        epoch=0,
        version=0,
        shards=OWN_SHARDS,
        seed=1,
        local_steps=1,
    )
    metadata = metadata_of()
    assert _work_fault(unit, metadata) == ""
    named = msgspec.structs.replace(unit, shards=ShardRange(first=1, count=1))
    assert "trains on its own data" in _work_fault(named, metadata)


def test_a_worker_is_not_told_of_the_folder():
    told = unsealed_metadata(metadata_of(), {})
    assert told.data.own is None
    assert told.access == "public"


def test_what_is_left_of_other_hosts_is_deleted(tmp_path):
    work = tmp_path / "work"
    for number in (1, 2):
        (own_folder_of(work, number) / "new-1").mkdir(parents=True)
    clean_own(work, {2})
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["2"]
    assert list(own_folder_of(work, 2).iterdir()) == []
    clean_own(Path(tmp_path / "none" / "work"), set())
