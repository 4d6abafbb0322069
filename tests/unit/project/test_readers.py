"""Readers: good files become shards, bad ones a sentence with the place."""

from __future__ import annotations

import gzip
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from pleb_project.definition.sections import DataSection
from pleb_project.readers.blobs import BlobFolder
from pleb_project.readers.groups import holdout_quotas
from pleb_project.readers.read import read_dataset
from pleb_project.readers.shards import shard_count
from pleb_project.readers.windows import block_numbers
from pleb_shared.errors import InputError
from pleb_shared.tensors.layout import load_tensors


@pytest.fixture
def blobs(tmp_path):
    return BlobFolder(tmp_path / "blobs")


def read(tmp_path, blobs, source, **settings):
    return read_dataset(DataSection(source=source, **settings), tmp_path, blobs)


def arrays(blobs, shards):
    """Return all rows of `shards` in order."""
    loaded = [load_tensors(blobs.get(shard.digest)) for shard in shards]
    return {name: np.concatenate([part[name] for part in loaded]) for name in loaded[0]}


def test_digits_are_split_spread_and_shuffled_the_same_way_each_time(tmp_path, blobs):
    first = read(tmp_path, blobs, "sklearn:digits", holdout=0.2)
    assert first == read(tmp_path, BlobFolder(tmp_path / "again"), "sklearn:digits", holdout=0.2)
    assert first != read(tmp_path, blobs, "sklearn:digits", holdout=0.2, seed=1)
    sizes = [shard.examples for shard in first.shards.train]
    assert (sum(sizes), first.holdout_examples) == (1438, 359)
    assert max(sizes) - min(sizes) <= 1
    rows = arrays(blobs, first.shards.train)
    assert rows["x"].shape == (1438, 8, 8)
    assert rows["x"].max() == 1
    assert len(set(rows["y"][:50])) == 10


def test_no_example_is_in_both_parts(tmp_path, blobs):
    np.savez(tmp_path / "d.npz", x=np.arange(1000), y=np.arange(1000))
    data = read(tmp_path, blobs, "npz", files=("d.npz",))
    train, holdout = arrays(blobs, data.shards.train), arrays(blobs, data.shards.holdout)
    assert sorted([*train["x"], *holdout["x"]]) == list(range(1000))
    assert (train["x"] == train["y"]).all()


def test_there_is_no_other_scikit_learn_set(tmp_path, blobs):
    with pytest.raises(InputError, match="there are sklearn:breast_cancer"):
        read(tmp_path, blobs, "sklearn:mnist")


def test_text_is_shuffled_in_blocks_and_its_end_is_the_holdout(tmp_path, blobs):
    text = b"".join(number.to_bytes(2, "big") for number in range(10_000))
    (tmp_path / "a.txt").write_bytes(text[:6000])
    (tmp_path / "b.txt").write_bytes(text[6000:])
    files = ("a.txt", "b.txt")
    data = read(tmp_path, blobs, "text", files=files, window=16)
    train, holdout = arrays(blobs, data.shards.train), arrays(blobs, data.shards.holdout)
    found = train["x"].tobytes()
    assert holdout["x"].tobytes() == text[18_000:]
    block = block_numbers(18_000 // 16, DataSection(source="text", window=16))
    pieces = [text[:18_000][start : start + block] for start in range(0, 18_000, block)]
    shuffled = [found[start : start + block] for start in range(0, 18_000, block)]
    assert sorted(shuffled) == sorted(pieces)
    assert shuffled != pieces
    assert shuffled[-1] == pieces[-1], "what is left of a block stays at the end"
    again = read(tmp_path, blobs, "text", files=files, window=16, seed=1)
    other = arrays(blobs, again.shards.train)
    assert sorted(other["x"].tobytes()) == sorted(found)
    assert other["x"].tobytes() != found
    assert data.spec.window == 16
    assert data.train_examples == 18_000 - 16 * len(data.shards.train)


def test_shards_of_a_text_are_alike_though_its_chapters_are_not(tmp_path, blobs):
    """Each quarter of the text has letters of its own; a shard should have those of all."""
    chapters = [bytes([65 + 8 * n + i % 8 for i in range(50_000)]) for n in range(4)]
    (tmp_path / "a.txt").write_bytes(b"".join(chapters))
    data = read(tmp_path, blobs, "text", files=("a.txt",), window=16)
    letters = [len(set(arrays(blobs, [s])["x"].tobytes())) for s in data.shards.train]
    assert sorted(letters)[len(letters) // 2] == 32


@pytest.mark.parametrize(
    ("shard", "window", "block"),
    [(4 * 2**20, 64, 65_536), (100_000, 64, 4096), (20_000, 64, 2500), (3000, 64, 1024)],
)
def test_blocks_are_long_beside_a_window_and_many_in_a_shard(shard, window, block):
    assert block_numbers(shard, DataSection(source="text", window=window)) == block


def test_text_without_files_is_pythons_own(tmp_path, blobs):
    data = read(tmp_path, blobs, "text")
    assert b"assert" in arrays(blobs, data.shards.train)["x"].tobytes()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(None, "cannot be read"), (b"", "is empty"), (b"short", "each needs more than window")],
)
def test_bad_text(tmp_path, blobs, content, sentence):
    if content is not None:
        (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        read(tmp_path, blobs, "text", files=("a.txt",))


def idx(array, code):
    head = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.tobytes()


IMAGES = np.arange(200 * 2 * 2, dtype=np.uint8).reshape(200, 2, 2)
LABELS = (np.arange(200) % 10).astype(np.uint8)


def test_idx_plain_and_compressed(tmp_path, blobs):
    (tmp_path / "x.gz").write_bytes(gzip.compress(idx(IMAGES, 8)))
    (tmp_path / "y").write_bytes(idx(LABELS, 8))
    data = read(
        tmp_path, blobs, "idx", files=("x.gz", "y"), holdout_files=("x.gz", "y"), shard_examples=50
    )
    holdout = arrays(blobs, data.shards.holdout)
    assert (holdout["x"] == IMAGES).all()
    assert holdout["y"].dtype == np.int64
    assert [shard.examples for shard in data.shards.train] == [50, 50, 50, 50]


def test_idx_numbers_are_big_endian(tmp_path, blobs):
    values = np.linspace(-1, 1, 200).astype(">f4")
    (tmp_path / "x").write_bytes(idx(values, 13))
    (tmp_path / "y").write_bytes(idx(LABELS, 8))
    data = read(tmp_path, blobs, "idx", files=("x", "y"), holdout_files=("x", "y"))
    assert (arrays(blobs, data.shards.holdout)["x"] == values.astype("f4")).all()


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (b"PK\x03\x04", "is not an idx file"),
        (idx(IMAGES, 8)[:-1], "ends before all its examples"),
        (gzip.compress(idx(IMAGES, 8))[:-40], "ends before all its examples"),
        (idx(IMAGES, 8)[:7], "ends before all its examples"),
        (idx(IMAGES[:7], 8), "has 7 examples"),
    ],
)
def test_bad_idx(tmp_path, blobs, images, sentence):
    (tmp_path / "x").write_bytes(images)
    (tmp_path / "y").write_bytes(idx(LABELS, 8))
    with pytest.raises(InputError, match=sentence):
        read(tmp_path, blobs, "idx", files=("x", "y"))


def test_npz_names_inputs_and_converts_wide_numbers(tmp_path, blobs):
    rng = np.random.default_rng(0)
    np.savez_compressed(tmp_path / "d.npz", x=rng.normal(size=(90, 3)), y=np.ones(90, np.int16))
    data = read(tmp_path, blobs, "npz", files=("d.npz",))
    assert [(i.name, i.dtype, i.shape) for i in data.spec.inputs] == [
        ("x", "float32", [3]),
        ("y", "int64", []),
    ]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"x": np.zeros(3), "y": np.zeros(4)}, "different lengths"),
        ({"x": np.array(["a"] * 9)}, "give numbers"),
        ({"x": np.array([1.0, np.nan, 2.0])}, "example 2 there is not a finite number"),
        ({"x": np.asfortranarray(np.ones((4, 4)))}, "C order"),
        ({"x": np.zeros((0, 2))}, "no example"),
    ],
)
def test_bad_npz(tmp_path, blobs, content, sentence):
    np.savez(tmp_path / "d.npz", **content)
    with pytest.raises(InputError, match=sentence):
        read(tmp_path, blobs, "npz", files=("d.npz",))


def test_npz_with_pickled_objects_is_not_opened(tmp_path, blobs):
    np.savez(tmp_path / "d.npz", x=np.array([{}, {}], dtype=object))
    with pytest.raises(InputError, match="plain numbers"):
        read(tmp_path, blobs, "npz", files=("d.npz",))


def test_a_file_that_is_no_npz(tmp_path, blobs):
    (tmp_path / "d.npz").write_bytes(b"no zip")
    with pytest.raises(InputError, match=r"cannot be read as \.npz"):
        read(tmp_path, blobs, "npz", files=("d.npz",))


TABLE = "age,work,pay\n" + "".join(
    f"{20 + n},{'ab?'[n % 3]},{('low', 'high')[n % 2]}\n" for n in range(60)
)


def test_csv_numbers_are_standardised_and_categories_numbered(tmp_path, blobs):
    (tmp_path / "d.csv").write_text(TABLE)
    data = read(tmp_path, blobs, "csv", files=("d.csv",))
    rows = arrays(blobs, [*data.shards.train, *data.shards.holdout])
    assert abs(rows["numbers"].mean()) < 1e-6
    assert abs(rows["numbers"].std() - 1) < 1e-6
    assert np.bincount(rows["categories"][:, 0]).tolist() == [20, 20, 20]
    assert np.bincount(rows["y"]).tolist() == [30, 30]
    assert "work (3)" in data.notes[1]


def test_csv_options(tmp_path, blobs):
    (tmp_path / "d.csv").write_text("1;2;x\n" * 20 + "3;NA;y\n" * 20)
    data = read(
        tmp_path,
        blobs,
        "csv",
        files=("d.csv",),
        header=False,
        delimiter=";",
        target="column1",
        drop=("column3",),
    )
    rows = arrays(blobs, data.shards.train)
    assert rows.keys() == {"numbers", "y"}
    assert set(rows["y"]) == {0, 1}


def test_csv_with_a_target_of_numbers(tmp_path, blobs):
    (tmp_path / "d.csv").write_text("a,b\n" + "".join(f"{n},{n / 7}\n" for n in range(30)))
    data = read(tmp_path, blobs, "csv", files=("d.csv",))
    assert arrays(blobs, data.shards.train)["y"].dtype == np.float32


@pytest.mark.parametrize(
    ("text", "settings", "sentence"),
    [
        ("a,b\n1,2\n1\n", {}, r"d\.csv:3: the row has 1 cells, the first one 2"),
        ("a,b\n1,x\n2,\n", {}, r"d\.csv:3: the target 'b' is missing"),
        ("a,a\n1,2\n", {}, "the column 'a' is duplicated"),
        ("a,b\n1,2\n", {"target": "c"}, "has no column 'c'; it has a, b"),
        ('a,b\n"1,2\n', {}, "is not a CSV file"),
        ("", {}, "is empty"),
        ("a,b\n", {}, "no example"),
        ("a,b\n" + "".join(f"t{n},1\n" for n in range(1100)), {}, "more than 1000 different texts"),
    ],
)
def test_bad_csv(tmp_path, blobs, text, settings, sentence):
    (tmp_path / "d.csv").write_text(text)
    with pytest.raises(InputError, match=sentence):
        read(tmp_path, blobs, "csv", files=("d.csv",), **settings)


def test_python_examples_as_dicts_and_as_tuples(tmp_path, blobs):
    (tmp_path / "data.py").write_text(
        "def examples():\n    for n in range(300):\n        yield {'x': [n, n / 2], 'y': n}\n"
    )
    data = read(tmp_path, blobs, "python")
    assert [(i.name, i.dtype, i.shape) for i in data.spec.inputs] == [
        ("x", "float32", [2]),
        ("y", "int64", []),
    ]
    (tmp_path / "pairs.py").write_text(
        "def train():\n    yield from ((n, n) for n in range(64))\n"
        "def holdout():\n    yield from ((n, n) for n in range(8))\n"
    )
    data = read(tmp_path, blobs, "python", files=("pairs.py",))
    assert (data.train_examples, data.holdout_examples) == (64, 8)


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (None, "There is no"),
        ("x = 1\n", "must define `examples"),
        ("import nothing_like_it\n", r"data\.py:1 failed: ModuleNotFoundError"),
        ("def examples():\n    yield {'x': 1}\n    raise ValueError('no')\n", r"data\.py:3 failed"),
        ("def examples():\n    yield 3\n", "yielded a int"),
        ("def examples():\n    yield {'x': 1}\n    yield {'y': 1}\n", "not all examples have"),
        ("def examples():\n    yield {'x': [1]}\n    yield {'x': [1, 2]}\n", "the same shape"),
        ("def examples():\n    yield {'x': 'text'}\n", "give numbers"),
        ("def examples():\n    return iter(())\n", "no example"),
    ],
)
def test_bad_python(tmp_path, blobs, code, sentence):
    if code is not None:
        (tmp_path / "data.py").write_text(code)
    with pytest.raises(InputError, match=sentence):
        read(tmp_path, blobs, "python")


def test_a_holdout_of_another_form_is_refused(tmp_path, blobs):
    np.savez(tmp_path / "a.npz", x=np.zeros((9, 2)))
    np.savez(tmp_path / "b.npz", x=np.zeros((9, 3)))
    with pytest.raises(InputError, match="must be the same"):
        read(tmp_path, blobs, "npz", files=("a.npz",), holdout_files=("b.npz",))


def test_too_few_examples_to_split():
    with pytest.raises(InputError, match=r"4 examples cannot be split with holdout = 0\.1"):
        holdout_quotas(np.array([4]), [], DataSection(source="csv"))


@pytest.mark.parametrize(
    ("examples", "bytes_each", "asked", "count"),
    [(10, 4, 0, 1), (1000, 4, 0, 15), (10_000, 4, 0, 16), (100, 10**6, 0, 24), (100, 4, 30, 3)],
)
def test_how_many_shards(examples, bytes_each, asked, count):
    assert shard_count(examples, bytes_each, asked) == count


def test_a_blob_that_was_changed_on_disk_is_noticed(blobs):
    blob = blobs.put(b"data")
    blobs.path(blob.digest).write_bytes(b"date")
    with pytest.raises(InputError, match="changed on disk"):
        blobs.get(blob.digest)


READER = """
import json
from pathlib import Path

import parts.numbers
from helpers import scaled


def examples():
    from late import offset  # imported when the examples are read

    for value in json.loads(Path("values.json").read_text()):
        yield {"x": scaled(value) + offset, "y": parts.numbers.ONE}
"""


@pytest.mark.parametrize("factor", [2, 3])
def test_data_py_finds_the_files_beside_it_and_leaves_no_trace(tmp_path, blobs, factor):
    (tmp_path / "project" / "parts").mkdir(parents=True)
    for name, text in {
        "data.py": READER,
        "helpers.py": f"def scaled(value):\n    return {factor} * value\n",
        "late.py": "offset = 100\n",
        "parts/__init__.py": "",
        "parts/numbers.py": "ONE = 1\n",
        "values.json": "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]",
    }.items():
        (tmp_path / "project" / name).write_text(text)
    before = (Path.cwd(), list(sys.path))
    data = read(tmp_path / "project", blobs, "python")
    assert (Path.cwd(), sys.path) == before
    assert not {"helpers", "late", "parts", "parts.numbers"} & sys.modules.keys()
    rows = arrays(blobs, [*data.shards.train, *data.shards.holdout])
    assert sorted(rows["x"]) == [factor * n + 100 for n in range(1, 11)]


def test_a_failing_data_py_leaves_no_trace_either(tmp_path, blobs):
    (tmp_path / "data.py").write_text(
        "import helpers\ndef examples():\n    yield {'x': helpers.no}\n"
    )
    (tmp_path / "helpers.py").write_text("\n")
    before = (Path.cwd(), list(sys.path))
    with pytest.raises(InputError, match=r"data\.py:3 failed: AttributeError"):
        read(tmp_path, blobs, "python")
    assert (Path.cwd(), sys.path) == before
    assert "helpers" not in sys.modules


def test_python_sequences_are_padded_where_the_file_says_so(tmp_path, blobs):
    (tmp_path / "data.py").write_text(
        "def examples():\n"
        "    for n in range(40):\n"
        "        yield {'x': [[n, n]] * (n % 4), 'y': n, 'size': [1, 2]}\n"
    )
    with pytest.raises(InputError, match=r"max_length = \.\.\. and pad = \{ x = 0 \}"):
        read(tmp_path, blobs, "python")
    (tmp_path / "data.py").write_text(
        "def examples():\n"
        "    for n in range(40):\n"
        "        yield {'x': [[n, n]] * (1 + n % 4), 'y': n, 'size': [1, 2]}\n"
    )
    data = read(tmp_path, blobs, "python", max_length=3, pad={"x": 0.0})
    assert {i.name: i.shape for i in data.spec.inputs} == {
        "x": [3, 2],
        "x_length": [],
        "y": [],
        "size": [2],
    }
    assert data.notes == ("sequences of 'x' cut to max_length: 10",)
