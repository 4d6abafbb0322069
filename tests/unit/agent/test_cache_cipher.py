"""Shards on the disk: unreadable without the host's key, whole after every break."""

from __future__ import annotations

import io
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pleb_agent.cache.blob_cache import BlobCache
from pleb_agent.cache.errors import CorruptBlobError
from pleb_agent.cache.shard_cipher import ShardCipher
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.parts import blob_of, leaves_of
from tests.unit.agent.test_cache import fill

DATA = b"to be or not to be, that is the question. " * 1000
BLOB = blob_of(DATA)
MINE, OTHER = ShardCipher(b"m" * 32), ShardCipher(b"o" * 32)


def put(cache, cipher=MINE, data=DATA):
    blob = blob_of(data)
    fill(cache.part(blob, leaves_of(data), cipher), data)
    return blob


def read(cache, cipher=MINE, blob=BLOB):
    into = io.BytesIO()
    cache.decrypt(blob, cipher, into)
    return into.getvalue()


def on_disk(folder):
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@given(st.binary(max_size=500), st.integers(0, 500))
def test_the_stream_begins_anywhere(data, at):
    digest = digest_of(data)
    whole = MINE.stream(digest)(data)
    assert MINE.stream(digest, min(at, len(data)))(data[at:]) == whole[at:]
    assert MINE.stream(digest)(whole) == data


def test_the_counter_wraps_around():
    digest = "f" * 64
    whole = MINE.stream(digest)(bytes(64))
    assert MINE.stream(digest, 48)(bytes(16)) == whole[48:]


def test_what_is_written_cannot_be_read_without_the_key(tmp_path):
    cache = BlobCache(tmp_path, 10**6)
    put(cache)
    assert read(cache) == DATA
    assert b"to be or not" not in on_disk(tmp_path)
    assert len(on_disk(tmp_path)) == len(DATA)
    assert not cache.has(BLOB, OTHER)
    assert not cache.has(BLOB)
    assert cache.has(BLOB, MINE)


def test_two_keys_keep_their_copies_apart(tmp_path):
    cache = BlobCache(tmp_path, 10**6)
    put(cache, MINE)
    put(cache, OTHER)
    cache.discard_all_of(OTHER)
    assert read(cache, MINE) == DATA
    assert not cache.has(BLOB, OTHER)


def test_an_interrupted_download_resumes_after_a_kill(tmp_path):
    data = DATA * 60
    blob, leaves = blob_of(data), leaves_of(data)
    part = BlobCache(tmp_path, 10**7).part(blob, leaves, MINE)
    part.put(1, data[2**20 :][: 2**20])
    part.close()
    cache = BlobCache(tmp_path, 10**7)  # another process
    part = cache.part(blob, leaves, MINE)
    assert part.missing == {0, 2}
    assert b"to be or not" not in on_disk(tmp_path)
    fill(part, data)
    assert b"to be or not" not in on_disk(tmp_path)
    assert read(cache, blob=blob) == data


def test_wrong_bytes_are_not_written(tmp_path):
    cache = BlobCache(tmp_path, 10**6)
    part = cache.part(BLOB, [], MINE)
    with pytest.raises(CorruptBlobError):
        part.put(0, b"x" * len(DATA))
    part.close()
    put(cache)
    assert read(cache) == DATA


def test_a_blob_that_rots_is_found_also_when_its_times_say_nothing(tmp_path):
    cache = BlobCache(tmp_path, 10**6)
    put(cache)
    path = next(path for path in tmp_path.rglob(f"{BLOB.digest}*") if path.is_file())
    times = path.stat()
    rotten = bytearray(path.read_bytes())
    rotten[7] ^= 1
    path.write_bytes(rotten)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(CorruptBlobError):
        read(cache)
    assert not cache.has(BLOB, MINE)


def test_a_full_quota_evicts_encrypted_ones_but_none_that_is_held(tmp_path):
    cache = BlobCache(tmp_path, 100_000)
    first = put(cache)
    with cache.hold([first]):
        second = put(cache, data=DATA[1:])
        put(cache, data=DATA[2:])
        assert cache.has(first, MINE)
        assert not cache.has(second, MINE)


def test_recent_names_digests_of_one_key_only(tmp_path):
    cache = BlobCache(tmp_path, 10**6)
    for cipher, data in ((MINE, DATA), (OTHER, DATA[1:]), (MINE, DATA[2:])):
        cache.touch(put(cache, cipher, data).digest, 1.0, cipher)
    assert cache.recent(9, MINE) == [digest_of(DATA[2:]), digest_of(DATA)]
    assert cache.recent(1, MINE) == [digest_of(DATA[2:])]
    assert cache.recent(9, OTHER) == [digest_of(DATA[1:])]
    assert cache.recent(9) == []


def test_names_survive_a_restart(tmp_path):
    put(BlobCache(tmp_path, 10**6))
    assert BlobCache(tmp_path, 10**6).recent(9, MINE) == [BLOB.digest]
