"""Trees over the parts of blobs: RFC 9162's, and nothing else leads to a signed root."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pleb_coordinator.blobs.local import LocalBlobs
from pleb_coordinator.blobs.parts import LeafCache, leaves_in, name_of, stored
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.parts import (
    blob_of,
    leaf_of,
    leaves_of,
    part_count,
    part_place,
    read_leaves,
    root_of,
)
from pleb_shared.protocol.project import Shard
from pleb_shared.protocol.unit import Blob

PART = LIMITS.blob_part_bytes
DATA = bytes(range(256)) * (PART // 100)  # 2.56 parts


def tree_of_rfc_9162(leaves):
    """MTH of section 2.1.1, written down as it stands there, from hashed leaves."""
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    halves = tree_of_rfc_9162(leaves[:k]) + tree_of_rfc_9162(leaves[k:])
    return hashlib.sha256(b"\x01" + halves).digest()


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=70))
def test_the_root_is_that_of_the_rfc(leaves):
    assert root_of(leaves) == tree_of_rfc_9162(leaves).hex()


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=2, max_size=20), st.data())
def test_every_leaf_and_their_order_are_in_the_root(leaves, data):
    place = data.draw(st.integers(0, len(leaves) - 1))
    other = [*leaves[:place], bytes(32), *leaves[place + 1 :]]
    assert (root_of(other) == root_of(leaves)) == (other == leaves)
    assert root_of(leaves) != root_of(leaves[:-1])


def test_a_node_passes_for_no_leaf():
    left, right = leaf_of(b"left"), leaf_of(b"right")
    assert root_of([left, right]) != leaf_of(left + right).hex()


def test_a_small_blob_has_no_root_and_a_large_one_must():
    assert blob_of(DATA[:PART]).root is None
    large = blob_of(DATA[: PART + 1])
    assert large.root == root_of([leaf_of(DATA[:PART]), leaf_of(DATA[PART : PART + 1])])
    for wrong in ({"size": 5}, {"root": None}):
        with pytest.raises(ValueError, match="exactly if it is larger"):
            msgspec.structs.replace(large, **wrong)
    text = strict_json.encode(large).replace(b',"root"', b',"x"')
    with pytest.raises(Refusal):
        strict_json.decode(text, Blob)
    assert Shard.of(large, 3).blob == large
    with pytest.raises(ValueError, match="exactly if it is larger"):
        Shard(digest=large.digest, size=large.size, examples=3)


def test_leaves_travel_and_are_checked():
    blob, leaves = blob_of(DATA), leaves_of(DATA)
    assert read_leaves(b"".join(leaves), blob) == leaves
    start, end = part_place(blob.size, 2)
    assert leaf_of(DATA[start:end]) == leaves[2]
    assert end == blob.size
    data = b"".join(leaves)
    for wrong in (b"", data[:-1], data + bytes(32), bytes([data[0] ^ 1]) + data[1:], bytes(96)):
        with pytest.raises(Refusal) as caught:
            read_leaves(wrong, blob)
        assert caught.value.code is RefusalCode.WRONG_DIGEST


@pytest.mark.parametrize(("size", "parts"), [(0, 1), (1, 1), (PART, 1), (PART + 1, 2), (9, 1)])
def test_parts_cover_a_blob(size, parts):
    assert part_count(size) == parts
    places = [part_place(size, number) for number in range(parts)]
    assert places[0][0] == 0
    assert places[-1][1] == size


def test_the_coordinator_names_and_cuts_blobs_alike(tmp_path, monkeypatch):
    blobs = LocalBlobs(tmp_path)
    large, small = stored(blobs, DATA), stored(blobs, b"small")
    assert [name_of(blobs, one.digest) for one in (large, small)] == [large, small]
    assert leaves_in(blobs, large.digest) == leaves_of(DATA)
    monkeypatch.setattr("pleb_coordinator.blobs.parts._KEPT_BYTES", 100)
    cache = LeafCache(blobs)
    for _ in range(3):
        assert cache.get(large.digest) == b"".join(leaves_of(DATA))
        assert cache.get(small.digest) == leaf_of(b"small")
