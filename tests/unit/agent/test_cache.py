"""The blob cache: quota, holds, corruption, interruption, a full disk."""

from __future__ import annotations

import errno
import os

import msgspec
import pytest

from pleb_agent.cache.blob_cache import BlobCache
from pleb_agent.cache.errors import CacheFullError, CorruptBlobError, DiskFullError
from pleb_shared.errors import Refusal
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.parts import blob_of, leaves_of, part_place

LARGE = bytes(range(256)) * 12_000
"""Three parts, the last one short."""


def fill(part, data):
    """Put all that is missing of a blob into its file, the last part first."""
    for number in sorted(part.missing, reverse=True):
        start, end = part_place(len(data), number)
        part.put(number, data[start:end])
    part.finish()


def put(cache, data, now=None):
    fill(cache.part(blob_of(data), leaves_of(data)), data)
    if now is not None:
        os.utime(cache.path(digest_of(data)), (now, now))
    return blob_of(data)


def missing_of(cache, data):
    part = cache.part(blob_of(data), leaves_of(data))
    part.close()
    return part.missing


def test_a_blob_is_there_whole_or_not_at_all(tmp_path):
    cache = BlobCache(tmp_path, 10**7)
    blob, leaves = blob_of(LARGE), leaves_of(LARGE)
    part = cache.part(blob, leaves)
    part.put(2, LARGE[2 * 2**20 :])
    part.put(0, LARGE[: 2**20])
    assert not cache.has(blob)
    part.close()
    again = BlobCache(tmp_path, 10**7).part(blob, leaves)  # as after kill -9
    assert again.missing == {1}
    assert again.read(0) == LARGE[: 2**20]
    fill(again, LARGE)
    assert cache.read(blob) == LARGE


@pytest.mark.parametrize(("at", "missing"), [(5, {0}), (2**20, {1}), (len(LARGE) - 1, {2})])
def test_a_part_that_was_damaged_on_the_disk_is_missing(tmp_path, at, missing):
    cache = BlobCache(tmp_path, 10**7)
    path = tmp_path / "parts" / blob_of(LARGE).digest
    path.write_bytes(LARGE[:at] + b"?" + LARGE[at + 1 :])
    assert missing_of(cache, LARGE) == missing
    path.write_bytes(LARGE[:-1])
    assert missing_of(cache, LARGE) == {2}


def test_wrong_bytes_never_get_the_name(tmp_path):
    cache = BlobCache(tmp_path, 10**7)
    part = cache.part(blob_of(b"right"), [])
    for wrong in (b"wrong", b"righ", b"right!"):
        with pytest.raises(CorruptBlobError):
            part.put(0, wrong)
    part.close()
    assert not cache.has(blob_of(b"right"))
    assert missing_of(cache, b"right") == {0}
    part = cache.part(blob_of(LARGE), leaves_of(LARGE))
    with pytest.raises(CorruptBlobError):
        part.put(1, bytes(2**20))
    part.close()


def test_a_root_and_a_digest_that_disagree_give_no_blob(tmp_path):
    cache = BlobCache(tmp_path, 10**7)
    other = LARGE[:-1] + b"?"
    lying = msgspec.structs.replace(blob_of(other), root=blob_of(LARGE).root)
    with pytest.raises(CorruptBlobError, match="published again"):
        fill(cache.part(lying, leaves_of(LARGE)), LARGE)
    assert not cache.has(lying)


def test_leaves_are_kept_with_their_blob(tmp_path):
    cache = BlobCache(tmp_path, 10**7)
    blob, leaves = blob_of(LARGE), leaves_of(LARGE)
    assert cache.leaves(blob) is None
    with pytest.raises(Refusal):
        cache.keep_leaves(blob, bytes(96))
    cache.keep_leaves(blob, b"".join(leaves))
    put(cache, LARGE)
    assert BlobCache(tmp_path, 10**7).leaves(blob) == leaves
    (tmp_path / "leaves" / blob.digest).write_bytes(bytes(96))
    assert cache.leaves(blob) is None
    cache.discard(blob.digest)
    assert not list((tmp_path / "leaves").iterdir())


def test_a_part_that_is_too_long_starts_again(tmp_path):
    cache = BlobCache(tmp_path, 10**6)
    (tmp_path / "parts" / digest_of(b"right")).write_bytes(b"far too long")
    assert missing_of(cache, b"right") == {0}


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
            cache.part(blob_of(b"d" * 250), [])
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
    part = cache.part(blob_of(b"right"), [])

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    part.put(0, b"right")
    with pytest.raises(DiskFullError, match="full"):
        part.finish()
    monkeypatch.undo()
    part.close()
    again = cache.part(blob_of(b"right"), [])
    assert not again.missing
    again.finish()
    assert cache.has(blob_of(b"right"))


def test_clearing_leaves_what_is_held(tmp_path):
    cache = BlobCache(tmp_path, 10**6)
    held, other = put(cache, b"a"), put(cache, b"b")
    with cache.hold([held]):
        cache.clear()
    assert cache.has(held)
    assert not cache.has(other)
