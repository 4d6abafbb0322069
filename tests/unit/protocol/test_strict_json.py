"""Strict JSON: what is refused, and that every struct survives the way there and back."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.messages import NoWork, RefusalBody
from pleb_shared.protocol.report import EvaluationResult, Report

REPORT = {
    "assignment": 1,
    "nonce": "0" * 32,
    "epoch": 0,
    "version": 3,
    "result": {"kind": "evaluation", "metrics": {"loss": 0.5}, "examples": 10},
    "compute_seconds": 1.5,
}


def refused(data: bytes, kind: type = Report, **options: int) -> Refusal:
    with pytest.raises(Refusal) as caught:
        strict_json.decode(data, kind, **options)
    return caught.value


def test_a_message_survives_the_way_there_and_back() -> None:
    report = strict_json.decode(json.dumps(REPORT).encode(), Report)
    assert isinstance(report.result, EvaluationResult)
    assert strict_json.decode(strict_json.encode(report), Report) == report


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"surplus": 1}, "surplus"),
        ({"assignment": "1"}, "int"),
        ({"assignment": -1}, ">= 0"),
        ({"assignment": 1.5}, "int"),
        ({"assignment": True}, "bool"),
        ({"nonce": "0" * 31}, "matching regex"),
        ({"result": {"kind": "pickle"}}, "pickle"),
        ({"result": None}, "null"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, object], says: str) -> None:
    refusal = refused(json.dumps(REPORT | change).encode())
    assert refusal.code is RefusalCode.MALFORMED
    assert says in refusal.message


def test_a_missing_field_is_named() -> None:
    refusal = refused(json.dumps({k: v for k, v in REPORT.items() if k != "version"}).encode())
    assert "version" in refusal.message


@pytest.mark.parametrize("constant", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
def test_numbers_that_are_none_are_refused(constant: bytes) -> None:
    data = json.dumps(REPORT).encode().replace(b"1.5", constant)
    assert refused(data).code is RefusalCode.MALFORMED


def test_a_key_given_twice_is_refused_at_any_depth() -> None:
    data = json.dumps(REPORT).encode()
    assert "twice" in refused(data.replace(b'"version"', b'"epoch": 0, "version"')).message
    assert "twice" in refused(data.replace(b'"loss": 0.5', b'"loss": 0.5, "loss": 0')).message


@pytest.mark.parametrize("brackets", [(b"[", b"]"), (b'{"a":', b"}")])
def test_nesting_ends_at_the_ceiling(brackets: tuple[bytes, bytes]) -> None:
    def nested(levels: int) -> bytes:
        return brackets[0] * levels + b"1" + brackets[1] * levels

    assert "nested" not in refused(nested(LIMITS.json_depth)).message
    assert "nested" in refused(nested(LIMITS.json_depth + 1)).message
    assert "nested" in refused(nested(40_000)).message


def test_brackets_in_strings_do_not_count() -> None:
    body = RefusalBody(code=RefusalCode.MALFORMED, message='"[{' * 100)
    assert strict_json.decode(strict_json.encode(body), RefusalBody) == body


def test_more_bytes_than_the_ceiling_are_not_even_parsed() -> None:
    assert refused(b"[" * 100, most_bytes=99).code is RefusalCode.TOO_LARGE


@given(st.binary(max_size=200))
def test_any_bytes_give_a_struct_or_a_typed_refusal(data: bytes) -> None:
    assert refused(data, NoWork).code is RefusalCode.MALFORMED


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_json_gives_a_struct_or_a_typed_refusal(value: object) -> None:
    assert refused(json.dumps(value).encode(), Report).code is RefusalCode.MALFORMED


def test_many_keys_with_one_twice_are_refused_in_no_time() -> None:
    """Anybody may send this before any signature is looked at; it took seconds once."""
    keys = b",".join(b'"%d":1' % number for number in range(20_000))
    began = time.perf_counter()
    assert "'19999' is there twice" in refused(b"{" + keys + b',"19999":1}').message
    assert time.perf_counter() - began < 0.5


def test_a_refusal_does_not_send_a_long_key_back() -> None:
    key = b'"' + b"k" * 50_000 + b'":1'
    assert len(refused(b"{" + key + b"," + key + b"}").message) < 300


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (b"9" * 5_000, "too large"),
        (b"9" * 250_000, "too large"),
        (b"-" + b"9" * 5_000, "too large"),
        (b"9" * 20, ""),
        (b"1e999", "too large"),
        (b"0." + b"1" * 5_000, "characters"),
        (b"1e" + b"9" * 5_000, "characters"),
        (b"-0", "-0"),
    ],
    ids=lambda value: str(value[:8]),
)
@pytest.mark.parametrize("field", [b'"version": 3', b'"examples": 10', b'"compute_seconds": 1.5'])
def test_numbers_of_any_length_are_refused_with_a_sentence(
    number: bytes, says: str, field: bytes
) -> None:
    name = field.partition(b":")[0]
    data = json.dumps(REPORT).encode().replace(field, name + b": " + number)
    if number == b"9" * 20 and name == b'"compute_seconds"':
        return  # a float may be as large
    refusal = refused(data)
    assert refusal.code is RefusalCode.MALFORMED
    assert says in refusal.message
    assert len(refusal.message) < 400


def test_minus_zero_may_be_a_float_and_stand_in_a_text() -> None:
    assert strict_json.parse(b'{"a": [-0.0, -0e1, "[-0]"]}') == {"a": [-0.0, -0.0, "[-0]"]}


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 17 + b'"' + b'\\"' * 120_000,
        b"[" * 17 + b'"' + b'\\"' * 120_000 + b"\\",
        b"[" * 17 + b'"a' * 80_000,
        b"[-0,-0]" + b'"' + b'\\"' * 120_000,
        b"[" * 200_000,
        b"[]," * 80_000,
        b"[ " + b" " * 200_000 + b"-0",
    ],
    ids=lambda data: repr(data[:24]),
)
def test_no_bytes_keep_the_reader_busy(data: bytes) -> None:
    """Anybody may send this before any signature is looked at; the first took four minutes once."""
    began = time.perf_counter()
    refused(data)
    assert time.perf_counter() - began < 2


def test_a_refusal_does_not_send_a_long_name_back() -> None:
    assert len(refused(b'{"' + b"k" * 50_000 + b'":1}').message) < 500
