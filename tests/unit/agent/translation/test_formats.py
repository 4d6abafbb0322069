"""Numbers, sizes, spans and times in each language."""

from __future__ import annotations

import time

import pytest

from pleb_agent.core.languages import LANGUAGES
from pleb_agent.translation.formats import FORMATS

EN, DE = FORMATS["en"], FORMATS["de"]
THIN = "\N{NARROW NO-BREAK SPACE}"


def test_every_language_has_formats():
    assert set(FORMATS) == set(LANGUAGES)


@pytest.mark.parametrize(
    ("value", "digits", "english", "german"),
    [
        (0, None, "0", "0"),
        (1234, None, "1,234", "1.234"),
        (1234567.5, None, "1,234,568", "1.234.568"),
        (3.14159, None, "3.142", "3,142"),
        (0.000012, None, "1.2e-05", "1,2e-05"),
        (2.0, None, "2", "2"),
        (2.0, 1, "2.0", "2,0"),
        (-7.25, 1, "-7.2", "-7,2"),
    ],
)
def test_numbers(value, digits, english, german):
    assert EN.number(value, digits) == english
    assert DE.number(value, digits) == german


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (2**10, "1 KB"),
        (1.54 * 2**20, "1.5 MB"),
        (192 * 2**20, "192 MB"),
        (99.96 * 2**20, "100 MB"),
        (2.5 * 2**30, "2.5 GB"),
        (3 * 2**40, "3 TB"),
    ],
)
def test_sizes(count, shown):
    assert EN.size(count) == shown.replace(" ", THIN)
    assert DE.size(count) == shown.replace(" ", THIN).replace(".", ",")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (95, "2 min"),
        (3600, "1 h"),
        (3900, "1 h 5 min"),
        (86_400, "1 d"),
        (90_000, "1 d 1 h"),
        (86_460, "1 d"),
        (-5, "0 s"),
    ],
)
def test_spans(seconds, shown):
    assert EN.span(seconds).replace(THIN, " ") == shown


def test_credit_energy_and_amounts():
    assert EN.credit(4.1e14) == f"410{THIN}TFLOP"
    assert EN.credit(12) == f"12{THIN}FLOP"
    assert DE.credit(1.3e12) == f"1,3{THIN}TFLOP"
    assert EN.energy(0.35) == f"350{THIN}Wh"
    assert EN.energy(0.0012) == f"1.2{THIN}Wh"
    assert EN.energy(0.0000499) == f"< 0.1{THIN}Wh"
    assert EN.energy(0) == f"0{THIN}Wh"
    assert DE.energy(1.24) == f"1,2{THIN}kWh"
    assert EN.amount(48_320) == f"48.3{THIN}k"
    assert EN.amount(9_999) == "9,999"
    assert EN.amount(1.5) == "1.5"


def test_times():
    now = time.struct_time((2026, 11, 24, 15, 0, 0, 1, 328, 0))
    early = time.struct_time((2026, 11, 24, 9, 5, 0, 1, 328, 0))
    before = time.struct_time((2026, 3, 1, 23, 59, 0, 6, 60, 0))
    long_ago = time.struct_time((2025, 12, 31, 0, 0, 0, 2, 365, 0))
    assert [EN.moment(then, now) for then in (early, before, long_ago)] == [
        "09:05",
        "1 Mar, 23:59",
        "31 Dec 2025, 00:00",
    ]
    assert [DE.moment(then, now) for then in (early, before, long_ago)] == [
        "09:05",
        "1. März, 23:59",
        "31. Dez. 2025, 00:00",
    ]
