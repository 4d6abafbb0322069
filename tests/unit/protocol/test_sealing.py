"""Sealed blobs and boxes: what opens, and that nothing else does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pleb_shared.errors import InputError, TrustError
from pleb_shared.protocol.sealing import (
    HEADER_BYTES,
    Box,
    MissingKeyError,
    ProjectKey,
    Reading,
    SealedBlob,
    project_key,
    put_in_box,
    read_reading,
    seal,
    seal_mark,
    sealed_bytes,
    unseal,
    write_reading,
)

MIB = 2**20
KEY = project_key(b"s" * 32, "words", 5)
NEXT = project_key(b"s" * 32, "words", 6)
KEYS = {KEY.id: KEY}


def content(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB, 3 * MIB + 7])
def test_a_sealed_blob_opens_to_the_same_bytes(size):
    data = content(size)
    sealed = seal(data, KEY)
    assert len(sealed) == sealed_bytes(size)
    assert unseal(sealed, KEYS) == data
    assert seal_mark(sealed) == (5, KEY.id)
    assert seal(data, KEY) == sealed  # publishing again makes the same digest
    assert seal(data, NEXT)[HEADER_BYTES:] != sealed[HEADER_BYTES:]


@given(st.integers(0, 3 * MIB), st.integers(0, 3 * MIB))
def test_any_range_can_be_read_by_itself(start, end):
    data = RANGED[0]
    blob = SealedBlob(lambda a, b: RANGED[1][a:b], len(RANGED[1]), KEYS)
    assert blob.size == len(data)
    assert blob.read(start, end) == data[start:end]


RANGED = (content(2 * MIB + 100), seal(content(2 * MIB + 100), KEY))


def test_no_key_but_the_right_one_opens_a_blob():
    sealed = seal(b"a shard", KEY)
    with pytest.raises(MissingKeyError, match="key 5"):
        unseal(sealed, {NEXT.id: NEXT})
    lying = ProjectKey(5, NEXT.key)
    with pytest.raises(TrustError, match="was changed"):
        unseal(sealed, {KEY.id: lying})
    assert b"a shard" not in sealed


def test_a_change_anywhere_is_noticed():
    data = content(MIB + 5)
    sealed = seal(data, KEY)
    part = MIB + 16
    for at in (0, 9, 17, 40, HEADER_BYTES, HEADER_BYTES + MIB, len(sealed) - 1):
        changed = bytearray(sealed)
        changed[at] ^= 1
        with pytest.raises(TrustError):
            unseal(bytes(changed), KEYS)
    head, first, last = (
        sealed[:HEADER_BYTES],
        sealed[HEADER_BYTES : HEADER_BYTES + part],
        sealed[HEADER_BYTES + part :],
    )
    for wrong in (
        head + first,  # the last part is left out
        head + first + first,
        head + last,
        sealed + b"\0",
        seal(b"other", KEY)[:HEADER_BYTES] + first + last,
        sealed[:HEADER_BYTES],
        b"",
        data,
    ):
        with pytest.raises(TrustError):
            unseal(wrong, KEYS)


def test_keys_follow_from_secret_name_and_number_alone():
    assert project_key(b"s" * 32, "words", 5) == KEY
    others = [
        project_key(b"t" * 32, "words", 5),
        project_key(b"s" * 32, "word", 5),
        project_key(b"s" * 32, "words", 15),
    ]
    assert len({key.key for key in (KEY, *others)}) == 4


def test_a_box_opens_for_its_key_and_purpose_only():
    box, other = Box(), Box()
    sealed = put_in_box(b"keys", box.public, "host a")
    assert box.open(sealed, "host a") == b"keys"
    for wrong in (sealed[:-1], sealed[:40], b"", bytes(32) + sealed[32:], sealed + b"x"):
        with pytest.raises(TrustError):
            box.open(wrong, "host a")
    with pytest.raises(TrustError):
        box.open(sealed, "host b")
    with pytest.raises(TrustError):
        other.open(sealed, "host a")
    with pytest.raises(InputError):  # a key of small order: everybody would know the secret
        put_in_box(b"keys", "00" * 32, "host a")


def test_what_a_reader_has_is_read_as_it_was_written():
    reading = Reading.of("words.h00.00", [KEY, NEXT])
    found = read_reading(write_reading(reading))
    assert found == reading
    assert found.keyring == {KEY.id: KEY, NEXT.id: NEXT}
    assert found.newest == NEXT
