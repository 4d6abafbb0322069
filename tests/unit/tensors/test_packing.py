"""Packed deltas: lossless, smaller, and never more of them unpacked than there must be."""

from __future__ import annotations

import hashlib
import tracemalloc
import zlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pleb_shared.errors import EncodingError, RefusalCode
from pleb_shared.protocol.codec import packed_most
from pleb_shared.protocol.project import ModelSpec, TensorSpec
from pleb_shared.protocol.unit import Blob
from pleb_shared.tensors.format import DeltaFormat
from pleb_shared.tensors.packing import pack, unpack_parts


def unpack(data, size):
    return b"".join(unpack_parts([data], size))


def code_of(data, size):
    with pytest.raises(EncodingError) as caught:
        unpack(data, size)
    return caught.value.code


@given(st.binary(max_size=2000))
def test_what_was_packed_comes_back(data):
    packed = pack(data)
    assert unpack(packed, len(data)) == data
    assert len(packed) <= packed_most(len(data))


@pytest.mark.parametrize("size", [1, 1000, 100_000, 3_000_000])
def test_what_cannot_be_made_smaller_stays_below_the_ceiling(size):
    data = np.random.default_rng(0).bytes(size)
    assert size < len(pack(data)) <= packed_most(size)


@given(st.binary(max_size=500), st.sampled_from([0, 1, 6, 9]))
def test_streams_of_any_level_are_read(data, level):
    assert unpack(zlib.compress(data, level), len(data)) == data


@given(st.binary(max_size=300), st.integers(0, 400))
def test_junk_is_refused_whatever_it_is(data, size):
    """It holds those very bytes, or it is refused: no other error, no other bytes."""
    try:
        found = unpack(data, size)
    except EncodingError:
        return
    assert zlib.decompress(data) == found
    assert len(found) == size


@given(st.binary(max_size=3000), st.lists(st.integers(0, 3000), max_size=6), st.booleans())
def test_it_comes_in_any_parts(data, cuts, is_wrong):
    packed = pack(data) + b"x" * is_wrong
    ends = sorted({*(cut for cut in cuts if cut < len(packed)), 0, len(packed)})
    parts = [packed[start:end] for start, end in pairwise(ends)]
    if is_wrong:
        with pytest.raises(EncodingError):
            list(unpack_parts(parts, len(data)))
    else:
        assert b"".join(unpack_parts(parts, len(data))) == data


def test_a_large_one_is_never_whole_in_the_memory():
    data = np.random.default_rng(0).bytes(20_000_000)
    packed = pack(data)
    tracemalloc.start()
    hasher = hashlib.sha256()
    for part in unpack_parts((packed[at : at + 10**6] for at in range(0, 10**8, 10**6)), len(data)):
        hasher.update(part)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert hasher.digest() == hashlib.sha256(data).digest()
    assert most < 5_000_000


def test_a_bomb_costs_no_more_memory_than_a_delta():
    bomb = zlib.compress(bytes(200_000_000), 9)
    tracemalloc.start()
    assert code_of(bomb, 100_000) is RefusalCode.MALFORMED
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1_000_000


def test_a_stream_must_be_whole_alone_and_of_the_size():
    data = bytes(range(200))
    packed = pack(data)
    assert code_of(packed[:-1], 200) is RefusalCode.MALFORMED
    assert code_of(packed[:-4] + bytes(4), 200) is RefusalCode.MALFORMED
    assert code_of(packed + b"x", 200) is RefusalCode.MALFORMED
    assert code_of(packed + packed, 200) is RefusalCode.MALFORMED
    assert code_of(packed, 199) is RefusalCode.MALFORMED
    assert code_of(packed, 201) is RefusalCode.WRONG_SIZE
    assert code_of(b"", 200) is RefusalCode.MALFORMED
    raw = zlib.compressobj(wbits=-15)
    assert code_of(raw.compress(data) + raw.flush(), 200) is RefusalCode.MALFORMED
    with_dictionary = zlib.compressobj(zdict=data)
    assert code_of(with_dictionary.compress(data) + with_dictionary.flush(), 200) is (
        RefusalCode.MALFORMED
    )


def test_int4_loses_a_sixth_of_its_bytes_and_a_long_stream_is_not_even_begun():
    nothing = Blob(digest="0" * 64, size=0)
    spec = TensorSpec(name="p", dtype="float32", shape=[100_000])
    model = ModelSpec(parameters=[spec], buffers=[], initial=nothing, initial_digest="0" * 64)
    encoding = DeltaFormat(model, "int4", 256)
    numbers = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    data = encoding.encode({"p": numbers})
    packed = pack(data)
    assert len(packed) < 0.85 * encoding.size
    assert encoding.unpack(packed) == data
    with pytest.raises(EncodingError) as caught:
        encoding.unpack(packed + bytes(encoding.packed_most))
    assert caught.value.code is RefusalCode.WRONG_SIZE
