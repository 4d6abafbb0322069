"""Receipts as people and programs read them: sums, words, tables, the year's picture."""

from __future__ import annotations

import csv
import io
import time

import pytest

from pleb_agent.cli.receipts import receipt_lines, verified_lines
from pleb_agent.control.receipt_reader import read_receipts, receipts_csv
from pleb_agent.core.milestones import milestones
from pleb_agent.journal.activity_log import local_day
from pleb_agent.journal.journal import Journal
from pleb_agent.translation.formats import FORMATS
from pleb_agent.web.page_receipts import day_squares, how_measured

NOW = 1_800_000_000.0
DAY = 86_400.0
WRITE = """INSERT INTO receipts (base_url, project, host, nonce, digest, unit, kind, epoch, version,
    at, day, credit, compute_seconds, kwh, measured_kwh, proof)
    VALUES ('https://example.org', ?, 'h', ?, 'd', ?, 'train', 0, 4, ?, ?, 1e12, 60, ?, ?, ?)"""


@pytest.fixture
def journal(tmp_path):
    found = Journal(tmp_path / "journal.sqlite")
    yield found
    found.close()


def receipt(journal, number, *, days_ago=0, project="words", kwh=0.2, measured=0.0, proof=""):
    at = NOW - days_ago * DAY
    values = (project, str(number), number, at, local_day(at), kwh, measured, proof)
    with journal.transaction():
        journal.db.execute(WRITE, values)


def test_days_add_up(journal):
    receipt(journal, 1, measured=0.2)
    receipt(journal, 2, measured=0.1)
    receipt(journal, 3, project="digits")
    receipt(journal, 4, days_ago=1)
    receipt(journal, 5, days_ago=40)
    view = read_receipts(journal, 30, 400.0, NOW, each=True)
    assert [(one.day, one.project, one.units) for one in view.days] == [
        (local_day(NOW), "digits", 1),
        (local_day(NOW), "words", 2),
        (local_day(NOW - DAY), "words", 1),
    ]
    assert view.units == len(view.receipts) == 4
    assert view.kwh == pytest.approx(0.8)
    assert view.kwh == pytest.approx(sum(one.kwh for one in view.receipts))
    assert view.measured_kwh == pytest.approx(0.3)
    assert view.co2_grams == pytest.approx(320)
    assert view.co2_grams == pytest.approx(sum(one.co2_grams or 0 for one in view.days))
    assert read_receipts(journal, 41, 0.0, NOW).units == 5


def test_without_a_factor_there_is_no_co2(journal):
    receipt(journal, 1)
    view = read_receipts(journal, 1, 0.0, NOW, each=True)
    assert view.co2_grams is None
    assert view.receipts[0].co2_grams is None
    assert "prefs set co2_grams_per_kwh" in receipt_lines(view)[-1]


def test_lines_for_people(journal):
    receipt(journal, 1, measured=0.2)
    receipt(journal, 2, days_ago=1, measured=0.1)
    receipt(journal, 3, days_ago=2)
    lines = receipt_lines(read_receipts(journal, 7, 350.0, NOW))
    assert "words: 1 unit in" in lines[0]
    assert "(measured)" in lines[0]
    assert "(50% measured, the rest estimated)" in lines[1]
    assert "(estimated)" in lines[2]
    assert "3 units" in lines[3]
    assert "of CO2" in lines[3]
    assert receipt_lines(read_receipts(journal, 7, 0.0, NOW + 90 * DAY)) == [
        f"No unit of yours was accepted since {local_day(NOW + 84 * DAY)}."
    ]


def test_a_table_for_other_programs(journal):
    receipt(journal, 7, proof="in", measured=0.05)
    text = receipts_csv(read_receipts(journal, 1, 500.0, NOW, each=True).receipts)
    (row,) = csv.DictReader(io.StringIO(text))
    assert row["accepted_at"] == time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(NOW))
    assert (row["project"], row["unit"], row["version"], row["proof"]) == ("words", "7", "4", "in")
    assert float(row["kwh"]) == pytest.approx(0.2)
    assert float(row["measured_kwh"]) == pytest.approx(0.05)
    assert float(row["co2_grams"]) == pytest.approx(100)
    assert receipts_csv([]).startswith("accepted_at,day,project")


@pytest.mark.parametrize(
    ("kwh", "measured", "word"),
    [(0.2, 0.2, "measured"), (0.2, 0.1, "partly measured"), (0.2, 0, "estimated")],
)
def test_how_energy_is_known(journal, kwh, measured, word):
    receipt(journal, 1, kwh=kwh, measured=measured)
    view = read_receipts(journal, 1, 0.0, NOW)
    assert how_measured(view) == how_measured(view.days[0]) == word


def test_weights():
    assert FORMATS["en"].weight(3.25) == "3.2\N{NARROW NO-BREAK SPACE}g"
    assert FORMATS["en"].weight(321) == "321\N{NARROW NO-BREAK SPACE}g"
    assert FORMATS["de"].weight(1234) == "1,2\N{NARROW NO-BREAK SPACE}kg"


def test_what_verify_says():
    found = {
        "project": "words",
        "source": "https://m",
        "newest": 412,
        "versions": [
            {"epoch": 0, "version": number, "units": 1 + (number == 412)}
            for number in range(400, 413)
        ],
        "units": 14,
        "taken_back": 1,
        "later": 2,
        "missing": 3,
    }
    lines = verified_lines(found)
    assert "version 412 has 2 units of yours" in lines[10].strip()
    assert "3 earlier versions" in lines[11]
    assert "14 units of yours in 13 versions, each proven" in lines[12]
    assert [line.strip()[:6] for line in lines[13:]] == ["1 unit", "2 unit", "3 unit"]


# -- a year ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("year", "days"), [(2026, 365), (2028, 366)])
def test_a_year_has_a_square_for_each_day_a_column_for_each_week(year, days):
    squares = day_squares(year, {f"{year}-01-01": 1, f"{year}-12-31": 8, f"{year}-06-01": 4})
    assert len(squares) == days
    assert len({(one.x, one.y) for one in squares}) == days
    assert max(one.x for one in squares) // 14 in {52, 53}
    assert {one.y // 14 for one in squares} == set(range(7))
    first, last = squares[0], squares[-1]
    assert {first.colour, last.colour, squares[1].colour, squares[151 + (days == 366)].colour}
    assert squares[1].colour == squares[2].colour != first.colour != last.colour


def test_a_year_without_units():
    assert len({one.colour for one in day_squares(2026, {})}) == 1


@pytest.mark.parametrize(
    ("reached", "said"),
    [
        ((0, 0, 0), []),
        ((1, 1, 0), ["The first unit was accepted."]),
        (
            (1234, 45, 12),
            [
                "1000 units were accepted.",
                "Units were accepted on 30 days.",
                "10 versions are proven to have your work.",
            ],
        ),
    ],
)
def test_milestones(reached, said):
    assert [str(one) for one in milestones(*reached)] == said
