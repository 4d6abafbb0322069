"""Encoded deltas: exact bytes, exact sizes, bounded errors, refusals."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from pleb_shared.errors import EncodingError, RefusalCode
from pleb_shared.protocol.project import ModelSpec, TensorSpec
from pleb_shared.protocol.unit import Blob
from pleb_shared.tensors.codec import check_delta, decode_delta, encode_delta, encoded_size

CODECS = ["fp32", "int8", "int4", "2bit"]
NOTHING = Blob(digest="0" * 64, size=0)


def model(*shapes, buffers=()):
    return ModelSpec(
        parameters=[
            TensorSpec(name=f"p{i}", dtype="float32", shape=list(shape))
            for i, shape in enumerate(shapes)
        ],
        buffers=[
            TensorSpec(name=f"b{i}", dtype=dtype, shape=list(shape))
            for i, (dtype, shape) in enumerate(buffers)
        ],
        initial=NOTHING,
        initial_digest="0" * 64,
    )


def array(*numbers):
    return np.array(numbers, np.float32)


# Numbers that a delta holds; what overflows a float16 scale is refused, tested below.
NUMBERS = st.floats(-1e4, 1e4, width=32)


@pytest.mark.parametrize("codec", CODECS)
@settings(max_examples=60, deadline=None)
@given(
    values=npst.arrays(np.float32, st.integers(0, 300), elements=NUMBERS),
    block=st.integers(16, 70),
)
def test_what_is_encoded_has_the_said_size_is_valid_and_decodes_within_a_step(codec, values, block):
    spec = model(values.shape, ())
    delta = {"p0": values, "p1": np.array(1.5, np.float32)}
    data = encode_delta(delta, spec, codec, block)
    assert len(data) == encoded_size(spec, codec, block)
    check_delta(data, spec, codec, block)
    back = decode_delta(data, spec, codec, block)
    assert back["p0"].dtype == np.float32
    assert back["p0"].shape == values.shape
    for start in range(0, values.size, block):
        part, found = values[start : start + block], back["p0"][start : start + block]
        largest = float(np.abs(part).max())
        # half a step, the scale's rounding to float16, and its floor
        allowed = {"fp32": 0.0, "int8": largest / 250, "int4": largest / 13.5, "2bit": largest}
        assert np.abs(part - found).max() <= allowed[codec] + 130 * 2.0**-24 * (codec != "fp32")


@pytest.mark.parametrize("codec", ["fp32", "int8", "int4"])
def test_encoding_what_was_decoded_gives_the_same_bytes(codec):
    spec = model((1000,))
    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    data = encode_delta({"p0": values}, spec, codec, 64)
    assert encode_delta(decode_delta(data, spec, codec, 64), spec, codec, 64) == data


def test_int4_bytes_by_hand():
    spec = model((3,))
    data = encode_delta({"p0": array(7, -3.5, 1)}, spec, "int4", 16)
    # scale 1 = 0x3C00; -3.5 rounds half to even to -4; codes 15, 4 | 9
    assert data == bytes([0x00, 0x3C, 0x4F, 0x09])
    assert decode_delta(data, spec, "int4", 16)["p0"].tolist() == [7, -4, 1]


def test_int8_bytes_by_hand():
    data = encode_delta({"p0": array(127, -127, 2.5)}, model((3,)), "int8", 16)
    assert data == bytes([0x00, 0x3C, 127, 0x81, 2])


def test_2bit_bytes_by_hand():
    spec = model((5,))
    data = encode_delta({"p0": array(1, -1, 1, -1, 1)}, spec, "2bit", 16)
    # root mean square 1; x / 1 rounded down plus 2: 3, 1, 3, 1 | 3
    assert data == bytes([0x00, 0x3C, 0b01_11_01_11, 0b11])
    assert decode_delta(data, spec, "2bit", 16)["p0"].tolist() == [1.5, -0.5, 1.5, -0.5, 1.5]


def test_every_block_has_its_scale_and_the_last_may_be_short():
    spec = model((20,))
    values = np.concatenate([np.full(16, 7), np.full(4, 700)]).astype(np.float32)
    assert (
        decode_delta(encode_delta({"p0": values}, spec, "int4", 16), spec, "int4", 16)["p0"]
        == values
    ).all()


def test_buffers_travel_exactly():
    spec = model((2,), buffers=[("float64", (2,)), ("int64", ()), ("bool", (3,))])
    delta = {
        "p0": array(0, 0),
        "b0": np.array([0.1, -1e300]),
        "b1": np.array(-(2**62)),
        "b2": np.array([1, 0, -1], np.int64),
    }
    data = encode_delta(delta, spec, "int4", 16)
    assert len(data) == 2 + 1 + 16 + 8 + 24
    for name, value in decode_delta(data, spec, "int4", 16).items():
        assert (value == delta[name]).all()


@pytest.mark.parametrize("codec", CODECS)
def test_bytes_are_the_same_on_every_platform(codec):
    words = np.random.Philox(key=1).random_raw(10_000).astype(np.float64)
    values = (words / 2**63 - 1).astype(np.float32)
    values *= values * values
    data = encode_delta({"p0": values}, model((10_000,)), codec, 256)
    golden = {
        "fp32": "a0fe01885c537b4e",
        "int8": "39d8b7b9ec59fe9d",
        "int4": "72cf73439801c332",
        "2bit": "2a70e1259f707a02",
    }
    assert hashlib.sha256(data).hexdigest()[:16] == golden[codec]


@pytest.mark.parametrize("codec", ["int8", "int4", "2bit"])
def test_zeros_stay_zeros_and_tiny_numbers_do_not_vanish_into_nan(codec):
    spec = model((32,))
    values = np.zeros(32, np.float32)
    values[16] = 1e-30
    back = decode_delta(encode_delta({"p0": values}, spec, codec, 16), spec, codec, 16)["p0"]
    assert (back[:16] == 0).all()
    assert np.abs(back).max() <= 2.0**-23


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(codec, bad):
    with pytest.raises(EncodingError) as caught:
        encode_delta({"p0": array(1, bad)}, model((2,)), codec, 16)
    assert caught.value.code is RefusalCode.NOT_FINITE


@pytest.mark.parametrize("codec", ["int4", "2bit"])
def test_numbers_too_large_for_a_scale_are_refused(codec):
    with pytest.raises(EncodingError, match="too large"):
        encode_delta({"p0": array(1e30)}, model((1,)), codec, 16)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("change", [-1, 1])
def test_a_wrong_size_is_refused(codec, change):
    spec = model((5,))
    data = encode_delta({"p0": array(1, 2, 3, 4, 5)}, spec, codec, 16)
    wrong = data[:-1] if change < 0 else data + b"\0"
    for function in (check_delta, decode_delta):
        with pytest.raises(EncodingError) as caught:
            function(wrong, spec, codec, 16)
        assert caught.value.code is RefusalCode.WRONG_SIZE


@pytest.mark.parametrize("scale", [0x7C00, 0x7E00, 0x8001, 0xBC00])
def test_a_scale_that_is_infinite_nan_or_negative_is_refused(scale):
    data = scale.to_bytes(2, "little") + b"\x88"
    with pytest.raises(EncodingError) as caught:
        check_delta(data, model((2,)), "int4", 16)
    assert caught.value.code is RefusalCode.NOT_FINITE


@pytest.mark.parametrize(("codec", "last"), [("int4", 0x18), ("2bit", 0b0100)])
def test_unused_bits_must_be_zero(codec, last):
    with pytest.raises(EncodingError) as caught:
        check_delta(b"\x00\x3c" + bytes([last]), model((1,)), codec, 16)
    assert caught.value.code is RefusalCode.MALFORMED


def test_buffers_that_are_not_finite_are_refused():
    spec = model((1,), buffers=[("float32", (1,))])
    data = encode_delta({"p0": array(1), "b0": array(1)}, spec, "fp32", 16)
    with pytest.raises(EncodingError) as caught:
        check_delta(data[:-4] + b"\x00\x00\xc0\x7f", spec, "fp32", 16)
    assert caught.value.code is RefusalCode.NOT_FINITE


def test_int4_is_nearly_eight_times_smaller_and_points_the_same_way():
    spec = model((512, 512))
    values = np.random.default_rng(0).standard_normal((512, 512)).astype(np.float32)
    data = encode_delta({"p0": values}, spec, "int4", 256)
    back = decode_delta(data, spec, "int4", 256)["p0"]
    assert values.nbytes / len(data) > 7.8
    cosine = (back * values).sum() / np.sqrt((back**2).sum() * (values**2).sum())
    assert cosine > 0.99


def test_a_missing_or_misshapen_tensor_is_refused():
    for delta in ({}, {"p0": array(1, 2, 3)}):
        with pytest.raises(EncodingError) as caught:
            encode_delta(delta, model((2,)), "int4", 16)
        assert caught.value.code is RefusalCode.WRONG_SHAPE
