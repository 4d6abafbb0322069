"""When the network may be used, and how fast."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pleb_agent.core.network_rules import network
from pleb_agent.core.preferences import Preferences
from tests.unit.agent.policy_moments import FREE, GIB, clock, later

PLAIN = Preferences()
CAPPED = Preferences(download_bytes_per_day=GIB, upload_bytes_per_day=GIB // 2)
TO_MIDNIGHT = (24 * 60 - 14 * 60 - 14) * 60
NIGHT = Preferences(network_hours="mon-sun 22:00-06:00")


@pytest.mark.parametrize(
    ("readings", "preferences", "allowed", "words", "seconds"),
    [
        (FREE, PLAIN, True, "may be used", 60),
        (replace(FREE, metered=None), PLAIN, True, "may be used", 60),
        (replace(FREE, metered=True), PLAIN, False, "metered", 60),
        (replace(FREE, metered=True), Preferences(on_metered=True), True, "may be used", 60),
        (FREE, NIGHT, False, "at 22:00", (22 * 60 - 14 * 60 - 14) * 60),
        (later(FREE, 9 * 3600), NIGHT, True, "may be used", 60),
        (later(FREE, 9 * 3600), CAPPED, True, "may be used", 60),
        (replace(FREE, downloaded_today_bytes=GIB - 1), CAPPED, True, "may be used", 60),
        (
            replace(FREE, downloaded_today_bytes=GIB),
            CAPPED,
            False,
            "download limit of 1 GB",
            TO_MIDNIGHT,
        ),
        (
            replace(FREE, uploaded_today_bytes=GIB),
            CAPPED,
            False,
            "limit of 512 MB",
            TO_MIDNIGHT,
        ),
        (replace(FREE, downloaded_today_bytes=2 * GIB), PLAIN, True, "may be used", 60),
        (later(FREE, 41.0), Preferences(network_hours="tue 14:00-14:15"), True, "may", 19.0),
    ],
)
def test_the_first_objection_decides(readings, preferences, allowed, words, seconds):
    decision = network(readings, preferences)
    assert decision.allowed is allowed
    assert words in str(decision.sentence)
    assert decision.look_again_seconds == seconds


def test_midnight_is_looked_at_to_the_second():
    used_up = replace(FREE, downloaded_today_bytes=GIB)
    decision = network(later(used_up, 17.5), CAPPED)
    assert decision.look_again_seconds == TO_MIDNIGHT - 17.5
    assert clock(later(FREE, TO_MIDNIGHT).now).minute == 0


def test_rates_are_those_of_the_user():
    decision = network(FREE, Preferences(download_bytes_per_second=2**20))
    assert decision.download_bytes_per_second == 2**20
    assert decision.upload_bytes_per_second is None


@given(
    st.booleans(),
    st.sampled_from(["", "tue 14:00-14:15", "tue 14:15-15:00", "wed 00:00-24:00"]),
    st.integers(0, 2 * GIB),
    st.floats(0, 59.9),
    st.floats(0, 1),
)
def test_nothing_changes_by_time_alone_before_the_next_look(metered, hours, used, begin, share):
    preferences = Preferences(network_hours=hours, download_bytes_per_day=GIB)
    readings = replace(later(FREE, begin), metered=metered, downloaded_today_bytes=used)
    decision = network(readings, preferences)
    assert decision.look_again_seconds > 0
    wait = share * (decision.look_again_seconds - 1e-6)
    assert network(later(readings, wait), preferences).sentence == decision.sentence
