"""The format of deltas: exact bytes, exact sizes, bounded errors, refusals."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from pleb_shared.errors import EncodingError, RefusalCode
from pleb_shared.protocol.project import Codec, ModelSpec, TensorSpec
from pleb_shared.protocol.unit import Blob, UnitKind
from pleb_shared.tensors.format import (
    DeltaFormat,
    delta_format,
    difference_format,
    training_format,
)

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
    encoding = DeltaFormat(spec, codec, block)
    data = encoding.encode(delta)
    assert len(data) == encoding.size
    encoding.check(data)
    back = encoding.decode(data)
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
    data = DeltaFormat(spec, codec, 64).encode({"p0": values})
    decoded = DeltaFormat(spec, codec, 64).decode(data)
    assert DeltaFormat(spec, codec, 64).encode(decoded) == data


@pytest.mark.parametrize(("codec", "largest", "zero"), [("int8", 127, 0), ("int4", 7, 8)])
@settings(max_examples=200, deadline=None)
@given(
    halves=npst.arrays(np.int16, st.integers(1, 90), elements=st.integers(-300, 300)),
    exponent=st.integers(-34, 10),
)
def test_codes_are_rounded_half_to_even_and_clipped(codec, largest, zero, halves, exponent):
    values = (halves / np.float32(2)).astype(np.float32) * np.float32(2.0**exponent)
    data = np.frombuffer(DeltaFormat(model(values.shape), codec, 16).encode({"p0": values}), "u1")
    blocks = -(-values.size // 16)
    scales = np.repeat(data[: 2 * blocks].view("<f2").astype(np.float32), 16)[: values.size]
    ratios = np.divide(values, scales, out=np.zeros_like(values), where=scales > 0)
    wanted = (np.clip(np.rint(ratios), -largest, largest) + zero).astype(np.int8)
    packed = data[2 * blocks :]
    found = packed if codec == "int8" else np.stack([packed & 15, packed >> 4], axis=1).ravel()
    assert (found[: values.size].view(np.int8) == wanted).all()


def test_int4_bytes_by_hand():
    spec = model((3,))
    data = DeltaFormat(spec, "int4", 16).encode({"p0": array(7, -3.5, 1)})
    # scale 1 = 0x3C00; -3.5 rounds half to even to -4; codes 15, 4 | 9
    assert data == bytes([0x00, 0x3C, 0x4F, 0x09])
    assert DeltaFormat(spec, "int4", 16).decode(data)["p0"].tolist() == [7, -4, 1]


def test_int8_bytes_by_hand():
    data = DeltaFormat(model((3,)), "int8", 16).encode({"p0": array(127, -127, 2.5)})
    assert data == bytes([0x00, 0x3C, 127, 0x81, 2])


def test_2bit_bytes_by_hand():
    spec = model((5,))
    data = DeltaFormat(spec, "2bit", 16).encode({"p0": array(1, -1, 1, -1, 1)})
    # root mean square 1; x / 1 rounded down plus 2: 3, 1, 3, 1 | 3
    assert data == bytes([0x00, 0x3C, 0b01_11_01_11, 0b11])
    assert DeltaFormat(spec, "2bit", 16).decode(data)["p0"].tolist() == [1.5, -0.5, 1.5, -0.5, 1.5]


def test_every_block_has_its_scale_and_the_last_may_be_short():
    spec = model((20,))
    values = np.concatenate([np.full(16, 7), np.full(4, 700)]).astype(np.float32)
    encoding = DeltaFormat(spec, "int4", 16)
    assert (encoding.decode(encoding.encode({"p0": values}))["p0"] == values).all()


def test_buffers_travel_exactly():
    kinds = [("float64", (2,)), ("int64", ()), ("bool", (3,)), ("uint8", (2,)), ("int32", ())]
    spec = model((2,), buffers=kinds)
    delta = {
        "p0": array(0, 0),
        "b0": np.array([0.1, -1e300]),
        "b1": np.array(-(2**62)),
        "b2": np.array([1, 0, -1], np.int64),
        "b3": np.array([255, -255], np.int64),
        "b4": np.array(2**32 - 1),
    }
    data = DeltaFormat(spec, "int4", 16).encode(delta)
    assert len(data) == 2 + 1 + 16 + 8 + 3 + 4 + 8
    for name, value in DeltaFormat(spec, "int4", 16).decode(data).items():
        assert (value == delta[name]).all()


@pytest.mark.parametrize("codec", CODECS)
@settings(max_examples=12, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([0, 1, 7, 16, 255, 3000, 140_000]), min_size=2, max_size=6),
    block=st.sampled_from([16, 17, 30, 256]),
)
def test_parameters_that_are_encoded_together_have_the_bytes_of_each_alone(codec, sizes, block):
    random = np.random.default_rng(sum(sizes))
    delta = {f"p{i}": random.standard_normal(n).astype(np.float32) for i, n in enumerate(sizes)}
    together = DeltaFormat(model(*((n,) for n in sizes)), codec, block)
    alone = [DeltaFormat(model((n,)), codec, block) for n in sizes]
    parts = [one.encode({"p0": delta[f"p{i}"]}) for i, one in enumerate(alone)]
    data = together.encode(delta)
    assert data == b"".join(parts)
    found = together.decode(data)
    for i, (one, part) in enumerate(zip(alone, parts, strict=True)):
        assert np.array_equal(found[f"p{i}"], one.decode(part)["p0"])


@pytest.mark.parametrize("codec", CODECS)
def test_bytes_are_the_same_on_every_platform(codec):
    words = np.random.Philox(key=1).random_raw(10_000).astype(np.float64)
    values = (words / 2**63 - 1).astype(np.float32)
    values *= values * values
    data = DeltaFormat(model((10_000,)), codec, 256).encode({"p0": values})
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
    encoding = DeltaFormat(spec, codec, 16)
    back = encoding.decode(encoding.encode({"p0": values}))["p0"]
    assert (back[:16] == 0).all()
    assert np.abs(back).max() <= 2.0**-23


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(codec, bad):
    with pytest.raises(EncodingError) as caught:
        DeltaFormat(model((2,)), codec, 16).encode({"p0": array(1, bad)})
    assert caught.value.code is RefusalCode.NOT_FINITE


@pytest.mark.parametrize("codec", ["int4", "2bit"])
def test_numbers_too_large_for_a_scale_are_refused(codec):
    with pytest.raises(EncodingError, match="too large"):
        DeltaFormat(model((1,)), codec, 16).encode({"p0": array(1e30)})


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("change", [-1, 1])
def test_a_wrong_size_is_refused(codec, change):
    spec = model((5,))
    encoding = DeltaFormat(spec, codec, 16)
    data = encoding.encode({"p0": array(1, 2, 3, 4, 5)})
    wrong = data[:-1] if change < 0 else data + b"\0"
    for function in (encoding.check, encoding.decode):
        with pytest.raises(EncodingError) as caught:
            function(wrong)
        assert caught.value.code is RefusalCode.WRONG_SIZE


@pytest.mark.parametrize("scale", [0x7C00, 0x7E00, 0x8001, 0xBC00])
def test_a_scale_that_is_infinite_nan_or_negative_is_refused(scale):
    data = scale.to_bytes(2, "little") + b"\x88"
    with pytest.raises(EncodingError) as caught:
        DeltaFormat(model((2,)), "int4", 16).check(data)
    assert caught.value.code is RefusalCode.NOT_FINITE


@pytest.mark.parametrize(("codec", "last"), [("int4", 0x18), ("2bit", 0b0100)])
def test_unused_bits_must_be_zero(codec, last):
    with pytest.raises(EncodingError) as caught:
        DeltaFormat(model((1,)), codec, 16).check(b"\x00\x3c" + bytes([last]))
    assert caught.value.code is RefusalCode.MALFORMED


def test_buffers_that_are_not_finite_are_refused():
    spec = model((1,), buffers=[("float32", (1,))])
    data = DeltaFormat(spec, "fp32", 16).encode({"p0": array(1), "b0": array(1)})
    with pytest.raises(EncodingError) as caught:
        DeltaFormat(spec, "fp32", 16).check(data[:-4] + b"\x00\x00\xc0\x7f")
    assert caught.value.code is RefusalCode.NOT_FINITE


def test_int4_is_nearly_eight_times_smaller_and_points_the_same_way():
    spec = model((512, 512))
    values = np.random.default_rng(0).standard_normal((512, 512)).astype(np.float32)
    data = DeltaFormat(spec, "int4", 256).encode({"p0": values})
    back = DeltaFormat(spec, "int4", 256).decode(data)["p0"]
    assert values.nbytes / len(data) > 7.8
    cosine = (back * values).sum() / np.sqrt((back**2).sum() * (values**2).sum())
    assert cosine > 0.99


def test_a_missing_or_misshapen_tensor_is_refused():
    for delta in ({}, {"p0": array(1, 2, 3)}):
        with pytest.raises(EncodingError) as caught:
            DeltaFormat(model((2,)), "int4", 16).encode(delta)
        assert caught.value.code is RefusalCode.WRONG_SHAPE


METADATA: Any = SimpleNamespace(model=model((40,)), codec=Codec(up="2bit", down="int8", block=16))


def test_the_unit_decides_the_format_of_its_delta():
    def found(kind):
        return delta_format(METADATA, SimpleNamespace(kind=kind, chunk="full"))

    assert found(UnitKind.TRAIN) == training_format(METADATA)
    assert found(UnitKind.TRAIN).size == 3 * 2 + 10, "three scales, four codes a byte"
    assert found(UnitKind.CALIBRATE).size == 160, "compared to the bit, so never quantised"
    assert difference_format(METADATA).size == 3 * 2 + 40


def test_an_evaluation_has_no_delta():
    with pytest.raises(EncodingError) as caught:
        delta_format(METADATA, SimpleNamespace(kind=UnitKind.EVALUATE, chunk="full"))
    assert caught.value.code is RefusalCode.WRONG_RESULT
