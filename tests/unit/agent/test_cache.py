"""The blob cache: quota, holds, corruption, interruption, a full disk."""

from __future__ import annotations

import errno
import os

import pytest

from pleb_agent.cache.blob_cache import BlobCache
from pleb_agent.cache.errors import CacheFullError, CorruptBlobError, DiskFullError
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.parts import blob_of


def put(cache, data, now=None):
    part = cache.part(blob_of(data))
    part.write(data)
    part.finish()
    if now is not None:
        os.utime(cache.path(digest_of(data)), (now, now))
    return blob_of(data)


def offset_of(cache, data):
    part = cache.part(blob_of(data))
    part.close()
    return part.offset


def test_a_blob_is_there_whole_or_not_at_all(tmp_path):
    cache = BlobCache(tmp_path, 10**6)
    data = b"shard" * 100
    part = cache.part(blob_of(data))
    part.write(data[:200])
    assert not cache.has(blob_of(data))
    part.close()
    again = BlobCache(tmp_path, 10**6).part(blob_of(data))  # as after kill -9
    assert again.offset == 200
    again.write(data[200:])
    again.finish()
    assert cache.read(blob_of(data)) == data


def test_wrong_bytes_never_get_the_name(tmp_path):
    cache = BlobCache(tmp_path, 10**6)
    part = cache.part(blob_of(b"right"))
    part.write(b"wrong")
    with pytest.raises(CorruptBlobError):
        part.finish()
    assert not cache.has(blob_of(b"right"))
    assert offset_of(cache, b"right") == 0


def test_a_part_that_is_too_long_starts_again(tmp_path):
    cache = BlobCache(tmp_path, 10**6)
    (tmp_path / "parts" / digest_of(b"right")).write_bytes(b"far too long")
    assert offset_of(cache, b"right") == 0


@pytest.mark.parametrize("damage", [b"rIght", b"short", b""])
def test_a_damaged_blob_is_noticed_and_thrown_away(tmp_path, damage):
    blob = put(BlobCache(tmp_path, 10**6), b"right")
    cache = BlobCache(tmp_path, 10**6)
    assert cache.has(blob)
    cache.path(blob.digest).write_bytes(damage)
    os.utime(cache.path(blob.digest), (1, 1))
    assert not cache.has(blob)
    assert not cache.path(blob.digest).exists()
    with pytest.raises(CorruptBlobError):
        cache.link(blob, tmp_path / "linked")


def test_the_longest_unused_goes_first(tmp_path):
    cache = BlobCache(tmp_path, 300)
    old, young = put(cache, b"a" * 100, now=10), put(cache, b"b" * 100, now=20)
    cache.touch(old.digest, now=30)
    put(cache, b"c" * 150)
    assert cache.has(old)
    assert not cache.has(young)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 300
    assert cache.recent(5)[0] == old.digest


def test_what_is_held_stays(tmp_path):
    cache = BlobCache(tmp_path, 300)
    held, other = put(cache, b"a" * 100, now=10), put(cache, b"b" * 100, now=20)
    with cache.hold([held]):
        put(cache, b"c" * 150)
        assert cache.has(held)
        assert not cache.has(other)
        with pytest.raises(CacheFullError, match="cache_bytes"):
            cache.part(blob_of(b"d" * 250))
        assert cache.has(held)
    put(cache, b"d" * 250)
    assert not cache.has(held)


def test_a_link_shares_the_bytes(tmp_path):
    cache = BlobCache(tmp_path / "cache", 10**6)
    blob = put(cache, b"graph")
    cache.link(blob, tmp_path / "graph.json")
    cache.link(blob, tmp_path / "graph.json")
    assert (tmp_path / "graph.json").read_bytes() == b"graph"
    assert (tmp_path / "graph.json").stat().st_ino == cache.path(blob.digest).stat().st_ino


def test_a_full_disk_is_a_typed_error_and_the_part_stays(tmp_path, monkeypatch):
    cache = BlobCache(tmp_path, 10**6)
    part = cache.part(blob_of(b"right"))
    part.write(b"ri")

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    part.write(b"ght")
    with pytest.raises(DiskFullError, match="full"):
        part.finish()
    monkeypatch.undo()
    part.close()
    again = cache.part(blob_of(b"right"))
    assert again.offset == 5
    again.finish()
    assert cache.has(blob_of(b"right"))


def test_clearing_leaves_what_is_held(tmp_path):
    cache = BlobCache(tmp_path, 10**6)
    held, other = put(cache, b"a"), put(cache, b"b")
    with cache.hold([held]):
        cache.clear()
    assert cache.has(held)
    assert not cache.has(other)
