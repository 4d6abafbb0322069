"""Layouts, digests, differences and distances of versions."""

from __future__ import annotations

import hashlib
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pleb_shared.errors import EncodingError, Refusal, RefusalCode
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.parts import blob_of
from pleb_shared.protocol.project import BaseSpec, ModelSpec, TensorSpec
from pleb_shared.protocol.unit import Blob
from pleb_shared.tensors.distance import delta_norm, distances, parameter_norms
from pleb_shared.tensors.format import DeltaFormat
from pleb_shared.tensors.layout import (
    check_version,
    load_tensors,
    read_tensors,
    save_tensors,
    version_digest,
)
from pleb_shared.tensors.version import (
    apply_difference,
    rebuild_version,
    subtract_versions,
    whole_model,
)

MODEL = ModelSpec(
    parameters=[
        TensorSpec(name="w", dtype="float32", shape=[2, 2]),
        TensorSpec(name="a", dtype="float32", shape=[]),
    ],
    buffers=[
        TensorSpec(name="n", dtype="int64", shape=[]),
        TensorSpec(name="m", dtype="float64", shape=[2]),
        TensorSpec(name="on", dtype="bool", shape=[2]),
        TensorSpec(name="u", dtype="uint8", shape=[2]),
    ],
    initial=Blob(digest="0" * 64, size=0),
    initial_digest="0" * 64,
)
FP32, INT4 = DeltaFormat(MODEL, "fp32", 16), DeltaFormat(MODEL, "int4", 16)


def version(seed=0):
    generator = np.random.default_rng(seed)
    return {
        "w": generator.standard_normal((2, 2)).astype(np.float32),
        "a": np.array(generator.standard_normal(), np.float32),
        "n": np.array(generator.integers(0, 1000)),
        "m": generator.standard_normal(2),
        "on": generator.integers(0, 2, 2).astype(bool),
        "u": generator.integers(0, 256, 2).astype(np.uint8),
    }


def test_a_version_is_named_by_its_plain_bytes_in_order():
    tensors = version()
    joined = b"".join(tensors[name].tobytes() for name in ("w", "a", "n", "m", "on", "u"))
    assert version_digest(tensors, MODEL) == hashlib.sha256(joined).hexdigest()


def test_neither_memory_order_nor_byte_order_changes_the_name():
    tensors = version()
    other = tensors | {
        "w": np.asfortranarray(tensors["w"]),
        "m": tensors["m"].astype(">f8"),
    }
    assert version_digest(other, MODEL) == version_digest(tensors, MODEL)


def test_safetensors_keep_every_name_dtype_and_shape():
    tensors = version()
    back = load_tensors(save_tensors(tensors))
    check_version(back, MODEL)
    assert version_digest(back, MODEL) == version_digest(tensors, MODEL)


def test_the_base_is_no_part_of_a_version():
    """Its numbers may be of half precision, which numpy only carries, and infinite."""
    base = {"f": np.array([1.5, -np.inf], np.float16), "h": np.zeros((2, 1), "V2")}
    base["i"] = np.array([-3], np.int8)
    specs = [
        TensorSpec(name="h", dtype="bfloat16", shape=[2, 1]),
        TensorSpec(name="f", dtype="float16", shape=[2]),
        TensorSpec(name="i", dtype="int8", shape=[1]),
    ]
    data = save_tensors(base)
    model = msgspec.structs.replace(MODEL, base=BaseSpec(tensors=specs, blob=blob_of(data)))
    tensors = version()
    check_version(tensors, model)
    assert version_digest(tensors, model) == version_digest(tensors, MODEL)
    assert DeltaFormat(model, "int4", 16).size == INT4.size
    whole = whole_model(tensors, model, {digest_of(data): data}.__getitem__)
    assert list(whole) == [*tensors, "h", "f", "i"]
    for name, array in base.items():
        assert whole[name].dtype == array.dtype
        assert whole[name].tobytes() == array.tobytes()
    again = load_tensors(save_tensors(whole))
    assert {n: (a.dtype, a.tobytes()) for n, a in again.items()} == {
        n: (a.dtype, a.tobytes()) for n, a in whole.items()
    }


@given(st.data())
def test_no_bytes_make_reading_a_base_fail_in_another_way(data):
    specs = [TensorSpec(name="a", dtype="int8", shape=[3]), MODEL.parameters[0]]
    good = save_tensors({"a": np.zeros(3, np.int8), "w": np.zeros((2, 2), np.float32)})
    place = data.draw(st.integers(0, len(good) - 1))
    piece = data.draw(st.binary(max_size=4) | st.sampled_from([b"-9", b"1e9", b"[]", b"null"]))
    bad = good[:place] + piece + good[place + data.draw(st.integers(0, 8)) :]
    try:
        found = dict(read_tensors(lambda start, stop: bad[start:stop], specs))
    except EncodingError:
        return
    assert {name: array.shape for name, array in found.items()} == {"a": (3,), "w": (2, 2)}


@pytest.mark.parametrize(
    "change",
    [
        {"base": BaseSpec(tensors=[MODEL.parameters[0]], blob=MODEL.initial)},
        {"parameters": [TensorSpec(name="w", dtype="bfloat16", shape=[2])]},
        {"buffers": [TensorSpec(name="n", dtype="int8", shape=[])]},
    ],
    ids=["a name twice", "a parameter of half precision", "a buffer of 8 bits"],
)
def test_metadata_cannot_name_a_model_that_no_delta_fits(change):
    fields = msgspec.to_builtins(MODEL) | msgspec.to_builtins(change)
    with pytest.raises(Refusal):
        strict_json.decode(msgspec.json.encode(fields), ModelSpec)


@pytest.mark.parametrize("data", [b"", b"x" * 100, b"\xff" * 8])
def test_broken_safetensors_are_refused(data):
    with pytest.raises(EncodingError) as caught:
        load_tensors(data)
    assert caught.value.code is RefusalCode.MALFORMED


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"w": np.zeros((2, 3), np.float32)}, RefusalCode.WRONG_SHAPE),
        ({"w": np.zeros((2, 2), np.float64)}, RefusalCode.WRONG_DTYPE),
        ({"x": np.zeros(1)}, RefusalCode.WRONG_SHAPE),
    ],
)
def test_a_version_of_another_form_is_refused(change, code):
    with pytest.raises(EncodingError) as caught:
        check_version(version() | change, MODEL)
    assert caught.value.code is code


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_a_difference_leads_from_one_version_to_the_next(first, second):
    a, b = version(first), version(second)
    found = apply_difference(a, subtract_versions(b, a, MODEL), MODEL)
    for name in ("n", "on", "u"):
        assert (found[name] == b[name]).all()
    for name in ("w", "a", "m"):
        np.testing.assert_allclose(found[name], b[name], rtol=1e-5, atol=1e-6)
    check_version(found, MODEL)


def test_a_version_is_rebuilt_from_snapshot_and_encoded_differences():
    versions = [version(0)]
    differences = []
    for seed in (1, 2):
        data = INT4.encode(subtract_versions(version(seed), versions[-1], MODEL))
        differences.append(INT4.decode(data))
        versions.append(apply_difference(versions[-1], differences[-1], MODEL))
    digest = version_digest(versions[-1], MODEL)
    found = rebuild_version(versions[0], iter(differences), MODEL, digest)
    assert version_digest(found, MODEL) == digest
    with pytest.raises(EncodingError) as caught:
        rebuild_version(versions[0], differences[:1], MODEL, digest)
    assert caught.value.code is RefusalCode.WRONG_DIGEST


def deltas():
    return subtract_versions(version(1), version(0), MODEL)


def test_the_distance_of_equal_deltas_is_zero_and_of_opposite_ones_two():
    delta = deltas()
    opposite = {name: -value for name, value in delta.items()}
    assert set(distances(delta, delta, FP32).values()) == {0.0}
    assert distances(delta, opposite, FP32)["w"] == pytest.approx(2)
    assert distances(delta, opposite, FP32).keys() == delta.keys()


def test_a_tensor_that_hardly_moves_does_not_blow_up_its_distance():
    a, b = deltas(), deltas()
    a["a"], b["a"] = np.array(1e-9, np.float32), np.array(-1e-9, np.float32)
    assert distances(a, b, FP32)["a"] < 1e-4


def test_a_parameter_counts_by_its_share_of_the_whole_update():
    """What is a twentieth of the usual change matters a twentieth, however different it is."""
    model = ModelSpec(
        parameters=[TensorSpec(name=n, dtype="float32", shape=[1000]) for n in ("large", "small")],
        buffers=[],
        initial=MODEL.initial,
        initial_digest=MODEL.initial_digest,
    )
    rng = np.random.default_rng(0)
    a = {"large": rng.normal(size=1000).astype("f4"), "small": np.full(1000, 0.001, np.float32)}
    b = {"large": a["large"], "small": -a["small"]}
    found = distances(a, b, DeltaFormat(model, "fp32", 256))
    assert found["large"] == 0
    assert found["small"] == pytest.approx(2 * 0.001 / (0.1 * np.sqrt(0.5)), rel=0.05)


@pytest.mark.parametrize("codec", ["fp32", "int4"])
def test_updates_that_are_rounding_noise_of_the_weights_agree(codec):
    """A model that has converged moves by 1e-8; honest PCs share nothing of such an update."""
    model = ModelSpec(
        parameters=[TensorSpec(name="w", dtype="float32", shape=[1000])],
        buffers=[],
        initial=MODEL.initial,
        initial_digest=MODEL.initial_digest,
    )
    rng = np.random.default_rng(0)
    weights = parameter_norms({"w": rng.normal(size=1000).astype("f4")}, model)
    assert weights[0] == pytest.approx(np.sqrt(1000), rel=0.1)
    encoding = DeltaFormat(model, codec, 256)

    def apart(size):
        pair = [{"w": (size * rng.normal(size=1000)).astype("f4")} for _ in range(2)]
        first, second = (encoding.decode(encoding.encode(delta)) for delta in pair)
        return distances(first, second, encoding, weights)["w"]

    assert apart(1e-8) < 2e-3
    assert apart(1e-3) > 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_infinitely_far(bad):
    a, b = deltas(), deltas()
    b["w"] = b["w"].copy()
    b["w"][0, 0] = bad
    assert distances(a, b, FP32)["w"] == math.inf
    assert distances(b, a, FP32)["w"] == math.inf
    assert distances(b, b, FP32)["w"] == math.inf


def test_the_norm_counts_parameters_only():
    delta = {name: np.zeros_like(value) for name, value in deltas().items()}
    delta["w"] = np.array([[3, 0], [0, 0]], np.float32)
    delta["a"] = np.array(4, np.float32)
    delta["n"] = np.array(1000)
    assert delta_norm(delta, MODEL) == 5.0


def coded(values: np.ndarray, model: ModelSpec) -> dict[str, np.ndarray]:
    encoding = DeltaFormat(model, "int4", 256)
    return encoding.decode(encoding.encode({"w": values}))


@pytest.mark.parametrize("n", [10, 64, 1000, 5000])
def test_a_code_rounded_the_other_way_is_no_distance_but_noise_is(n: int) -> None:
    """Honest hosts differ by 1e-5; a cheat adds 1 % of noise to what somebody else computed."""
    model = ModelSpec(
        parameters=[TensorSpec(name="w", dtype="float32", shape=[n])],
        buffers=[],
        initial=MODEL.initial,
        initial_digest=MODEL.initial_digest,
    )
    generator = np.random.Generator(np.random.Philox(n))
    honest: list[float] = []
    noisy: list[float] = []
    for _ in range(100):
        values = generator.standard_normal(n).astype(np.float32)
        for found, share in ((honest, 1e-5), (noisy, 1e-2)):
            other = values + (share * generator.standard_normal(n)).astype(np.float32)
            pair = coded(values, model), coded(other, model)
            found.append(distances(*pair, DeltaFormat(model, "int4", 256))["w"])
    assert max(honest) < 1e-3
    assert n < 1000 or min(noisy) > 0.01


def test_a_code_that_is_two_steps_off_is_a_distance() -> None:
    values = np.linspace(-7, 7, 15, dtype=np.float32)
    model = ModelSpec(
        parameters=[TensorSpec(name="w", dtype="float32", shape=[15])],
        buffers=[],
        initial=MODEL.initial,
        initial_digest=MODEL.initial_digest,
    )
    other = values.copy()
    other[7] += 1
    assert distances({"w": values}, {"w": other}, DeltaFormat(model, "int4", 256))["w"] < 1e-3
    other[7] += 1
    assert distances({"w": values}, {"w": other}, DeltaFormat(model, "int4", 256))["w"] > 0.05
