"""docs/preferences.md tells of every preference, preset and reason what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest

from pleb_agent.core.changes import show_value
from pleb_agent.core.descriptions import PREFERENCES, Kind
from pleb_agent.core.preference_info import range_of, shown
from pleb_agent.core.preferences import Preferences
from pleb_agent.core.presets import PRESETS
from pleb_agent.core.readiness import Reason

PAGE = (Path(__file__).parents[3] / "docs" / "preferences.md").read_text()
DEFAULTS = Preferences()
SAID_IN_WORDS = {Reason.READY, Reason.STARTING}


def allowed(info) -> str:
    bounds = range_of(info.name)
    words = {
        Kind.FLAG: "on, off",
        Kind.HOURS: "hours",
        Kind.NAMES: "names",
        Kind.TEXT: "text",
    }.get(info.kind)
    if words is None:
        words = f"{shown(info.name, bounds.least)} to {shown(info.name, bounds.most)}"
    return f"{words}, none: {info.none}" if bounds.optional else words


@pytest.mark.parametrize("info", PREFERENCES, ids=lambda info: info.name)
def test_every_preference_has_its_line(info):
    name = "shares.PROJECT" if info.kind is Kind.WEIGHTS else info.name
    default = show_value(DEFAULTS, name) or "empty"
    default = "half of them" if name == "threads" else default
    assert f"| `{name}` | {default} | {allowed(info)} | {info.help} |" in PAGE


@pytest.mark.parametrize("name", PRESETS["full"].values)
def test_every_value_of_a_preset_has_its_cell(name):
    values = [shown(name, PRESETS[preset].values[name]) for preset in ("quiet", "balanced", "full")]
    assert f"| `{name}` | {' | '.join(values)} |" in PAGE


def test_every_reason_is_told_in_its_rank():
    ranks = [reason for reason in Reason if reason not in SAID_IN_WORDS]
    places = [PAGE.index(f"| `{reason.value}` |") for reason in ranks]
    assert places == sorted(places)
