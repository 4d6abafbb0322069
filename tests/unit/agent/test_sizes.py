"""Sizes as people write and read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pleb_agent.core.sizes import format_bytes, parse_bytes


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("1000000", 10**6),
        ("4GB", 4 * 2**30),
        ("4 GiB", 4 * 2**30),
        ("4g", 4 * 2**30),
        (" 1.5 MB ", 3 * 2**19),
        (".5tb", 2**39),
        ("500 kb", 500 * 2**10),
        ("12 B", 12),
    ],
)
def test_sizes_are_understood(text, number):
    assert parse_bytes(text) == number


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "4 PB", "1,5GB", "4GBs", "four", "1e9", "nan"])
def test_other_texts_are_no_sizes(text):
    with pytest.raises(ValueError, match="is not a size"):
        parse_bytes(text)


@pytest.mark.parametrize(
    "text", ["9" * 400, "9" * 5000 + "TB", "." + "9" * 5000 + "e9", "5000000TB"]
)
def test_no_size_is_beyond_every_number(text):
    with pytest.raises(ValueError, match=r"more than any|not a size"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KB"),
        (3 * 2**19, "1.5 MB"),
        (10 * 2**30, "10 GB"),
        (100 * 2**30, "100 GB"),
        (2**44, "16 TB"),
        (round(12.34 * 2**30), "12.3 GB"),
    ],
)
def test_sizes_are_written_shortly(number, text):
    assert format_bytes(number) == text


@given(st.integers(0, 2**44))
def test_written_sizes_are_near_the_original(number):
    assert parse_bytes(format_bytes(number)) == pytest.approx(number, rel=0.006)
