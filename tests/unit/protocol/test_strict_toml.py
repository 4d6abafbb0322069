"""TOML that people write: any numbers, nesting and bytes give tables or a sentence."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pleb_shared.errors import InputError
from pleb_shared.protocol import strict_toml
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.strict_toml import TomlError


def refused(text: str) -> TomlError:
    began = time.perf_counter()
    with pytest.raises(TomlError) as caught:
        strict_toml.parse(text)
    assert time.perf_counter() - began < 5
    assert len(str(caught.value)) < 400
    assert isinstance(caught.value, InputError)
    return caught.value


def test_what_people_write_is_read() -> None:
    text = '[a]\nb = 1_000\nc = -0\nd = [0.5, 1e-3]\ne = "x.y.z"\n[a.f]\ng = true\n'
    assert strict_toml.parse(text) == {
        "a": {"b": 1000, "c": 0, "d": [0.5, 0.001], "e": "x.y.z", "f": {"g": True}}
    }


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("9" * 19, "64 bits"),
        ("9" * 5000, "64 bits"),
        ("-" + "9" * 200_000, "64 bits"),
        ("9_" * 5000 + "9", "64 bits"),
        ("0x" + "f" * 17, "64 bits"),
        ("0b" + "1" * 100_000, "64 bits"),
        ("1e999", "finite"),
        ("-1e999", "finite"),
        ("inf", "finite"),
        ("nan", "finite"),
        ("1e" + "9" * 5000, "characters"),
        ("0." + "1" * 5000, "characters"),
        ("[[1e999]]", "finite"),
    ],
)
def test_a_number_out_of_bounds_is_refused_with_its_place(value: str, says: str) -> None:
    error = refused(f"[a]\nb = {value}\n")
    assert says in error.reason
    assert error.line == 2 or error.path[:2] == ("a", "b")


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 100_000,
        "a = " + "[" * 20 + "]" * 20,
        "a = " + "{a=" * 50_000,
        ".".join(["a"] * 100_000) + " = 1",
        "[" + " . ".join(["'a'"] * 40_000) + "]",
        '["a"' + '."b"' * 50_000 + "]",
        "a = 1\n" * 40_000,
        "\n".join(f"[a{n}" for n in range(20_000)),
        "a" * 200_000,
        '"' * 200_000,
        "a = '''" + "'" * 200_000,
        "a = " + "x." * 100_000,
        "a" + " " * 200_000 + "b",
        "#" * (LIMITS.settings_bytes + 1),
    ],
    ids=lambda text: repr(text[:12]),
)
def test_nothing_takes_long(text: str) -> None:
    refused(text)


def test_a_large_file_that_is_right_is_read_in_no_time() -> None:
    text = "\n".join(f"a{n} = [{n}, {n}.5, '{n}']" for n in range(8_000))
    began = time.perf_counter()
    assert len(strict_toml.parse(text)) == 8_000
    assert time.perf_counter() - began < 5


@given(st.text(alphabet=" \n\"'[]{}=.,#a1-_e+:\\", max_size=200))
def test_any_text_gives_tables_or_a_sentence(text: str) -> None:
    try:
        assert isinstance(strict_toml.parse(text), dict)
    except TomlError as error:
        assert str(error)  # noqa: PT017 - either is right
