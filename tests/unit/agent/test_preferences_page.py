"""docs/preferences.md agrees with the declarations."""

from __future__ import annotations

from pleb_agent.core.rules import PolicyReason
from tests.unit.agent.preferences_page import PAGE, with_tables

NOT_IN_THE_TABLE = {PolicyReason.READY, PolicyReason.STARTING}


def test_the_tables_are_those_of_the_declarations():
    page = PAGE.read_text()
    assert page == with_tables(page), "run: python -m tests.unit.agent.preferences_page"


def test_every_reason_is_listed_by_rank():
    page = PAGE.read_text()
    ranks = [reason for reason in PolicyReason if reason not in NOT_IN_THE_TABLE]
    places = [page.index(f"| `{reason.value}` |") for reason in ranks]
    assert places == sorted(places)
