"""Parquet, JSON lines, images, sounds and the like become inputs, broken files a sentence."""

from __future__ import annotations

import gzip
import importlib
import io
import json
import struct
import tarfile
import wave
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pleb_project.definition.sections import DataSection
from pleb_project.readers.blobs import BlobFolder
from pleb_project.readers.read import read_dataset
from pleb_shared.errors import InputError
from pleb_shared.tensors.layout import load_tensors


@pytest.fixture
def blobs(tmp_path):
    return BlobFolder(tmp_path / "blobs")


@pytest.fixture
def read(tmp_path, blobs):
    """Read a source in the test's folder, twice, and return the data set."""

    def both(source, **settings):
        data = DataSection(source=source, **settings)
        found = read_dataset(data, tmp_path, blobs)
        again = read_dataset(data, tmp_path, BlobFolder(tmp_path / "again"))
        assert found == again, "the same files did not become the same shards"
        return found

    return both


@pytest.fixture
def fails(tmp_path, blobs):
    def check(sentence, source, **settings):
        with pytest.raises(InputError, match=sentence):
            read_dataset(DataSection(source=source, **settings), tmp_path, blobs)

    return check


def arrays(blobs, shards):
    loaded = [load_tensors(blobs.get(shard.digest)) for shard in shards]
    return {name: np.concatenate([part[name] for part in loaded]) for name in loaded[0]}


def everything(blobs, dataset):
    return arrays(blobs, [*dataset.shards.train, *dataset.shards.holdout])


def inputs(dataset):
    return {spec.name: (spec.dtype, spec.shape) for spec in dataset.spec.inputs}


# -- Parquet, JSON lines, Hugging Face: columns ------------------------------------------------

COLUMNS = {
    "age": [20 + n for n in range(60)],
    "work": [("a", "b", None)[n % 3] for n in range(60)],
    "pay": [("low", "high")[n % 2] for n in range(60)],
}


def test_parquet_with_a_target_is_a_table_as_of_csv(tmp_path, blobs, read):
    pq.write_table(pa.table(COLUMNS), tmp_path / "d.parquet", row_group_size=7)
    rows = [",".join(COLUMNS)]
    rows += [f"{a},{w or '?'},{p}" for a, w, p in zip(*COLUMNS.values(), strict=True)]
    (tmp_path / "d.csv").write_text("\n".join(rows))
    found = read("parquet", files=("d.parquet",), target="pay")
    same = read("csv", files=("d.csv",))
    assert inputs(found) == inputs(same)
    assert found.notes == same.notes
    left, right = everything(blobs, found), everything(blobs, same)
    assert (left["categories"] == right["categories"]).all()
    np.testing.assert_allclose(left["numbers"], right["numbers"], rtol=1e-6)


def test_parquet_without_a_target_has_an_input_of_every_column(tmp_path, blobs, read):
    table = pa.table(
        {
            "tokens": [list(range(n % 5)) for n in range(40)],
            "labels": [[1] * (n % 5) for n in range(40)],
            "image": pa.array(
                [np.full(4, n).tolist() for n in range(40)], pa.list_(pa.float64(), 4)
            ),
            "y": pa.array(range(40), pa.int16()),
            "note": ["text"] * 40,
        }
    )
    (tmp_path / "parts").mkdir()
    pq.write_table(table[:25], tmp_path / "parts" / "1.parquet", row_group_size=10)
    pq.write_table(table[25:], tmp_path / "parts" / "2.parquet")
    found = read(
        "parquet",
        files=("parts",),
        drop=("note",),
        max_length=3,
        pad={"tokens": 0, "labels": -100},
    )
    assert inputs(found) == {
        "tokens": ("int64", [3]),
        "tokens_length": ("int64", []),
        "labels": ("int64", [3]),
        "labels_length": ("int64", []),
        "image": ("float32", [4]),
        "y": ("int64", []),
    }
    rows = everything(blobs, found)
    row = rows["y"].tolist().index(7)
    assert rows["tokens"][row].tolist() == [0, 1, 0]
    assert rows["labels"][row].tolist() == [1, 1, -100]
    assert rows["tokens_length"][row] == 2
    assert found.notes == (
        "sequences of 'tokens' cut to max_length: 8",
        "sequences of 'labels' cut to max_length: 8",
    )


def test_json_lines_of_whole_numbers_may_have_fractions_later(tmp_path, blobs, read):
    lines = [json.dumps({"x": n if n < 30 else n + 0.5, "y": [n, 2]}) for n in range(60)]
    (tmp_path / "d.jsonl").write_text("\n".join(lines))
    found = read("jsonl", files=("d.jsonl",))
    assert inputs(found) == {"x": ("float32", []), "y": ("int64", [2])}
    assert max(everything(blobs, found)["x"]) == 59.5


def test_json_lines_texts_become_bytes(tmp_path, blobs, read):
    (tmp_path / "d.jsonl").write_text("".join(f'{{"text": "é{n}"}}\n' for n in range(20)))
    found = read("jsonl", files=("d.jsonl",), max_length=8)
    assert inputs(found) == {"text": ("uint8", [8]), "text_length": ("int64", [])}
    assert bytes(everything(blobs, found)["text"][0][:2]).decode() == "é"


def save_to_disk(folder, columns, *, part=10):
    """Write what `datasets.Dataset.save_to_disk` writes."""
    folder.mkdir(parents=True)
    table = pa.table(columns)
    file = str(folder / "data-00000-of-00001.arrow")
    with pa.OSFile(file, "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table, max_chunksize=part)
    files = [{"filename": "data-00000-of-00001.arrow"}]
    (folder / "state.json").write_text(json.dumps({"_data_files": files, "_split": None}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": {}}))


def png(number, size=(4, 4)):
    file = io.BytesIO()
    Image.new("RGB", size, (number, 0, 255)).save(file, "png")
    return file.getvalue()


def test_a_saved_data_set_of_hugging_face_with_images_and_splits(tmp_path, blobs, read):
    def some(count):
        pictures = [{"bytes": png(n), "path": None} for n in range(count)]
        return {"image": pictures, "label": list(range(count))}

    save_to_disk(tmp_path / "set" / "train", some(30))
    save_to_disk(tmp_path / "set" / "test", some(9))
    (tmp_path / "set" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    found = read("huggingface", files=("set",))
    assert inputs(found) == {"image": ("uint8", [3, 4, 4]), "label": ("int64", [])}
    assert (found.train_examples, found.holdout_examples) == (30, 9)
    rows = arrays(blobs, found.shards.train)
    assert (rows["image"][:, 0, 0, 0] == rows["label"]).all()
    assert (rows["image"][:, 2] == 255).all()


def test_one_saved_data_set_is_split(tmp_path, read):
    save_to_disk(tmp_path / "set", {"x": list(range(50)), "y": list(range(50))})
    found = read("huggingface", files=("set",), holdout=0.2)
    assert (found.train_examples, found.holdout_examples) == (40, 10)


def test_bad_tables(tmp_path, fails):
    pq.write_table(pa.table(COLUMNS), tmp_path / "d.parquet")
    fails("row 3 has nothing in column 'work'", "parquet", files=("d.parquet",), max_length=4)
    fails("column 'pay' is text: give max_length", "parquet", files=("d.parquet",), drop=("work",))
    fails("no column 'wage'; it has age, work, pay", "parquet", files=("d.parquet",), target="wage")
    whole = (tmp_path / "d.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    fails(r"cut\.parquet cannot be read as Parquet", "parquet", files=("cut.parquet",))
    broken = bytearray(whole)
    broken[4:200] = b"\xff" * 196
    (tmp_path / "broken.parquet").write_bytes(broken)
    fails(
        r"broken\.parquet, after row 0, cannot be read",
        "parquet",
        files=("broken.parquet",),
        target="pay",
    )
    fails("No file is like", "parquet", files=("*.pq",))
    fails("cannot be read", "parquet", files=("none.parquet",))
    dates = pa.table({"d": pa.array([1, 2], pa.timestamp("s"))})
    pq.write_table(dates, tmp_path / "t.parquet")
    fails(r"'d' has the type timestamp\[ms\]", "parquet", files=("t.parquet",))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"x": 1}\n{"x": \n', r"d\.jsonl:2 is not a JSON object"),
        ('{"x": 1}\n[1]\n', r"d\.jsonl:2 is not a JSON object"),
        ('{"x": ' + "[" * 100_000, r"d\.jsonl:1 is not a JSON object"),
        ('{"x": "' + "a" * 17_000_000 + '"}', r"d\.jsonl:1: the line has more than"),
        ('{"x": 1}\n{"x": "a"}\n', "the values of 'x' are not of one kind"),
        ('{"x": 1}\n{"y": 1}\n', "row 2 has nothing in column 'x'"),
        ("\n", "no example"),
        ('{"x": [1]}\n{"x": [1, 2]}\n', "all have the same shape"),
    ],
)
def test_bad_json_lines(tmp_path, fails, text, sentence):
    (tmp_path / "d.jsonl").write_text(text)
    fails(sentence, "jsonl", files=("d.jsonl",))


def test_bad_saved_data_sets(tmp_path, fails):
    (tmp_path / "set").mkdir()
    fails("has no state.json", "huggingface", files=("set",))
    save_to_disk(tmp_path / "cut", {"x": list(range(5000))}, part=1000)
    file = tmp_path / "cut" / "data-00000-of-00001.arrow"
    file.write_bytes(file.read_bytes()[:20_000])
    fails("after row 2000, cannot be read as Arrow", "huggingface", files=("cut",))


# -- images -------------------------------------------------------------------------------------


def picture_folder(root, *, per_class=12, size=(4, 4)):
    for number, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for n in range(per_class):
            (root / name / f"s{n % 4}_{n:02}.png").write_bytes(png(100 * number + n, size))


def test_an_image_folder(tmp_path, blobs, read):
    picture_folder(tmp_path / "train")
    (tmp_path / "train" / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "train" / ".hidden").write_text("")
    found = read("images", files=("train",))
    assert inputs(found) == {"x": ("uint8", [3, 4, 4]), "y": ("int64", [])}
    assert found.notes == ("classes: 0 cat, 1 dog", "files that are left out for their ending: 1")
    rows = everything(blobs, found)
    assert (rows["y"] == rows["x"][:, 0, 0, 0] // 100).all()


def test_images_are_cropped_resized_and_made_grey(tmp_path, blobs, read):
    picture_folder(tmp_path / "train", size=(30, 20))
    found = read("images", files=("train",), image_size=8, channels=1)
    assert inputs(found)["x"] == ("uint8", [1, 8, 8])
    picture_folder(tmp_path / "test", size=(9, 9))
    found = read("images", files=("train",), holdout_files=("test",), image_size=8)
    assert found.holdout_examples == 24


def bomb(width, height):
    """Return a PNG of a few bytes that claims a huge image."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(100_000)))
    return b"\x89PNG\r\n\x1a\n" + head + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (bomb(30_000, 30_000), "cannot be read as an image"),
        (bomb(9_000, 8_000), "has 9000 x 8000 pixels; at most 50000000 are read"),
        (png(1)[:-30], "cannot be read as an image"),
        (b"GIF89a", "cannot be read as an image"),
        (b"not an image", "cannot be read as an image"),
        (b"", "cannot be read as an image"),
        (png(1, (5, 4)), "cat/s2_02.png has 5 x 4 pixels, an image before it 4 x 4"),
    ],
)
def test_bad_images(tmp_path, fails, content, sentence):
    picture_folder(tmp_path / "train")
    (tmp_path / "train" / "cat" / "s2_02.png").write_bytes(content)
    fails(sentence, "images", files=("train",))


def test_bad_image_folders(tmp_path, fails):
    fails("is not a folder", "images", files=("train",))
    (tmp_path / "train").mkdir()
    fails("has no file that ends in", "images", files=("train",))
    picture_folder(tmp_path / "two")
    (tmp_path / "two" / "stray.png").write_bytes(png(1))
    fails("has files beside its subfolders", "images", files=("two",))
    picture_folder(tmp_path / "good")
    picture_folder(tmp_path / "other" / "in")
    fails(
        "is of the class 'in', which is not among those for training",
        "images",
        files=("good",),
        holdout_files=("other",),
    )


# -- sounds -------------------------------------------------------------------------------------


def wav(samples=8, rate=8000, channels=1):
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((channels, 2, rate, 0, "NONE", ""))
        sound.writeframes(np.full(samples * channels, 2**14, "<i2").tobytes())
    return file.getvalue()


def sound_folder(root, **changes):
    for number, name in enumerate(("no", "yes")):
        (root / name).mkdir(parents=True)
        for n in range(10):
            sound = wav(**({"samples": 8 + number * n} | changes))
            (root / name / f"{n % 5}_take{n}.wav").write_bytes(sound)


def test_a_folder_of_sounds_padded_to_one_length(tmp_path, blobs, read):
    sound_folder(tmp_path / "words")
    found = read("audio", files=("words",), max_length=12)
    assert inputs(found) == {
        "x": ("float32", [12]),
        "x_length": ("int64", []),
        "y": ("int64", []),
    }
    rows = everything(blobs, found)
    assert set(rows["x"][:, 0]) == {0.5}
    assert (rows["x"].sum(axis=1) == rows["x_length"] / 2).all()
    assert found.notes[-1] == "sequences of 'x' cut to max_length: 5"


def test_stereo_becomes_its_mean(tmp_path, blobs, read):
    sound_folder(tmp_path / "words", samples=6, channels=2)
    found = read("audio", files=("words",))
    assert inputs(found)["x"] == ("float32", [6])
    assert set(everything(blobs, found)["x"].reshape(-1)) == {0.5}


def lying(sound, field, value):
    changed = bytearray(sound)
    changed[field : field + 4] = struct.pack("<I", value)
    return bytes(changed)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (wav(10), "must all have the same shape"),
        (wav(8, rate=16_000), "has 16000 samples a second, not 8000"),
        (wav()[:-6], "ends 6 bytes before its header says"),
        (lying(wav(), 40, 2**31), "bytes before its header says"),
        (lying(wav(), 16, 2**31), "cannot be read as a sound"),
        (b"RIFF", "cannot be read as a sound"),
        (b"", "cannot be read as a sound"),
        (wav(2**24 + 1), "claims 16777217 samples; at most 16777216 are read"),
    ],
)
def test_bad_sounds(tmp_path, fails, content, sentence):
    sound_folder(tmp_path / "words", samples=8)
    (tmp_path / "words" / "yes" / "3_take3.wav").write_bytes(content)
    fails(sentence, "audio", files=("words",))


# -- WebDataset ---------------------------------------------------------------------------------


def tar(path, files, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def example(number):
    return [
        (f"./a/{number:04}.png", png(number)),
        (f"./a/{number:04}.cls", str(number % 3).encode()),
        (f"./a/{number:04}.depth.npy", npy(np.full((2, 2), number))),
        (f"./a/{number:04}.json", json.dumps({"age": number, "who": "me"}).encode()),
        (f"./a/{number:04}.txt", b"a caption"),
    ]


def test_webdataset_plain_and_compressed(tmp_path, blobs, read):
    tar(tmp_path / "0.tar", [file for n in range(20) for file in example(n)])
    tar(tmp_path / "1.tar.gz", [file for n in range(20, 32) for file in example(n)], "w:gz")
    found = read("webdataset", files=("*.tar*",))
    assert inputs(found) == {
        "x": ("uint8", [3, 4, 4]),
        "y": ("int64", []),
        "depth": ("int64", [2, 2]),
        "age": ("int64", []),
    }
    rows = everything(blobs, found)
    assert sorted(rows["age"]) == list(range(32))
    assert (rows["x"][:, 0, 0, 0] == rows["age"]).all()
    assert (rows["depth"][:, 1, 1] == rows["age"]).all()


def test_bad_archives(tmp_path, fails):
    files = [file for n in range(20) for file in example(n)]
    tar(tmp_path / "good.tar", files)
    whole = (tmp_path / "good.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[:20_000])
    fails(r"cut\.tar cannot be read as a tar archive|ends inside", "webdataset", files=("cut.tar",))
    (tmp_path / "no.tar").write_bytes(b"x" * 2000)
    fails("cannot be read as a tar archive", "webdataset", files=("no.tar",))
    (tmp_path / "no.tar.gz").write_bytes(gzip.compress(whole)[:-500])
    fails("cannot be read as a tar archive|ends inside", "webdataset", files=("no.tar.gz",))
    tar(tmp_path / "some.tar", files[:-1])
    fails("0019: it has the files cls, depth.npy, json, png", "webdataset", files=("some.tar",))
    tar(tmp_path / "odd.tar", [("1.xyz", b"")])
    fails('add "xyz" to drop', "webdataset", files=("odd.tar",))
    tar(tmp_path / "word.tar", [("1.cls", b"cat")])
    fails("1.cls is b'cat', not the number of a class", "webdataset", files=("word.tar",))
    tar(tmp_path / "pickle.tar", [("1.npy", npy(np.array([{}], object)))])
    fails("1.npy cannot be read as .npy", "webdataset", files=("pickle.tar",))


# -- .npy and tokens ----------------------------------------------------------------------------


def test_npy_files_are_inputs_by_their_names(tmp_path, blobs, read):
    np.save(tmp_path / "x.npy", np.arange(300).reshape(100, 3) / 2)
    np.save(tmp_path / "y.npy", np.arange(100, dtype=np.int8))
    found = read("npy", files=("x.npy", "y.npy"))
    assert inputs(found) == {"x": ("float32", [3]), "y": ("int64", [])}
    rows = everything(blobs, found)
    assert (rows["x"][:, 0] == rows["y"] * 1.5).all()


def test_bad_npy(tmp_path, fails):
    np.save(tmp_path / "x.npy", np.zeros((100, 3)))
    np.save(tmp_path / "y.npy", np.zeros(99))
    fails("different lengths", "npy", files=("x.npy", "y.npy"))
    whole = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(whole[:-1])
    fails("ends too early", "npy", files=("x.npy",))
    huge = whole.replace(b"(100, 3)", b"(9,3000000000)", 1)
    (tmp_path / "x.npy").write_bytes(huge)
    fails("cannot be read as .npy|claims examples of", "npy", files=("x.npy",))


def test_tokens_of_any_vocabulary(tmp_path, blobs, read):
    tokens = np.arange(5000) * 13 % 50_257
    tokens.astype("<u2").tofile(tmp_path / "1.bin")
    tokens.astype("<u2").tofile(tmp_path / "2.bin")
    found = read("tokens", files=("*.bin",), vocabulary=50_257, window=32, shard_examples=1000)
    assert found.spec.kind == "windows"
    rows = everything(blobs, found)
    assert rows["x"].dtype == np.uint16
    both = np.concatenate([tokens, tokens])
    assert (np.sort(rows["x"]) == np.sort(both)).all()
    assert (rows["x"][-1000:] == both[-1000:]).all(), "the holdout keeps its order"
    large = read("tokens", files=("*.bin",), vocabulary=2**16 + 1)
    assert everything(blobs, large)["x"].dtype == np.int32
    np.save(tmp_path / "t.npy", tokens)
    same = read("tokens", files=("t.npy", "t.npy"), window=32, shard_examples=1000)
    assert same.shards == found.shards
    (tokens % 200).astype("u1").tofile(tmp_path / "small.bin")
    small = read("tokens", files=("small.bin",), dtype="uint8", vocabulary=200)
    assert everything(blobs, small)["x"].dtype == np.uint8
    (tokens % 32_000).astype("<u2").tofile(tmp_path / "middle.bin")
    middle = read("tokens", files=("middle.bin",), vocabulary=32_000)
    assert everything(blobs, middle)["x"].dtype == np.uint16


def test_bad_tokens(tmp_path, fails):
    np.arange(2000, dtype="<u2").tofile(tmp_path / "t.bin")
    fails(
        r"t\.bin: token 401 is 400, but vocabulary = 400 in \[data\]",
        "tokens",
        files=("t.bin",),
        vocabulary=400,
    )
    (tmp_path / "odd.bin").write_bytes(bytes(1001))
    fails("not a whole number of uint16", "tokens", files=("odd.bin",))
    (tmp_path / "none.bin").write_bytes(b"")
    fails("is empty", "tokens", files=("none.bin",))
    np.save(tmp_path / "f.npy", np.zeros(9))
    fails("tokens are one list of whole numbers", "tokens", files=("f.npy",))
    fails("has no .bin or .npy files", "tokens", files=("blobs",))


# -- missing libraries --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "package"), [("parquet", "pyarrow"), ("images", "pillow"), ("audio", "soundfile")]
)
def test_a_missing_library_is_one_sentence_with_the_command(
    tmp_path, fails, monkeypatch, source, package
):
    def missing(name):
        raise ImportError(name)

    picture_folder(tmp_path / "images")
    sound_folder(tmp_path / "audio")
    (tmp_path / "parquet").write_bytes(b"")
    monkeypatch.setattr(importlib, "import_module", missing)
    fails(f"with `pip install {package}`", source, files=(source,))
