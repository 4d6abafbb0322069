"""A small fleet for some seconds. `python -m tests.soak.traffic` is 500 agents for half an hour."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.soak.traffic import Plan, run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.system


def test_what_a_fleet_sends_counts_once_and_every_version_recomputes(tmp_path: Path) -> None:
    outcome = run(Plan(agents=20, seconds=15, unit_seconds=0.3), tmp_path)
    ledger, counts = outcome.ledger, outcome.ledger.fleet.counts
    assert ledger.checked["versions"] == ledger.version > 2
    assert ledger.checked["counted"] > 20
    assert min(counts[kind] for kind in ("uploads", "visits", "event_lines")) > 0
