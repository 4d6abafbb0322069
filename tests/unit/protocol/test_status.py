"""The project's status is read leniently: coordinators may be older or newer than the reader."""

from __future__ import annotations

import msgspec
import pytest

from pleb_shared.protocol.reasons import ReasonCode, because
from pleb_shared.protocol.status import ProjectStatus

WAITS = because(ReasonCode.TRIALS_COMPARED, version=2, count=1)
"""A trial of a sweep at a rung."""


def read(text: str) -> ProjectStatus:
    return msgspec.json.decode(text, type=ProjectStatus)


def test_missing_fields_have_defaults():
    status = read('{"project": "words", "series": [{"version": 3}], "round": {}}')
    assert (status.version, status.target, status.hosts) == (0, None, [])
    assert (status.series[0].train_loss, status.series[0].metrics) == (None, {})
    assert status.round is not None
    assert status.round.quorum_at is None


def test_unknown_fields_words_and_reasons_are_accepted():
    status = read(
        '{"project": "words", "state": "sleeping", "a_field_of_the_future": [1],'
        ' "hosts": [{"host": "ab", "state": "dreaming", "mood": 1}],'
        ' "units": [{"unit": 1, "reason": {"code": "new_reason", "values": {"n": 1}}}]}'
    )
    assert (status.state, status.hosts[0].state) == ("sleeping", "dreaming")
    assert status.units[0].reason is not None
    assert status.units[0].reason.code == "new_reason"


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        '{"project": 1}',
        '{"project": "' + "x" * 4001 + '"}',
        '{"project": "p", "series": [{"version": -1}]}',
        '{"project": "p", "metrics": {' + ",".join(f'"m{n}": 1' for n in range(1025)) + "}}",
    ],
)
def test_what_is_no_status_is_refused(text):
    with pytest.raises(msgspec.DecodeError):
        read(text)


@pytest.mark.parametrize(
    ("changes", "finished"),
    [
        ({"version": 3, "metrics_version": 3}, True),
        ({"version": 3, "metrics_version": 2}, False),
        ({"version": 2, "metrics_version": 2}, False),
        ({"version": 3, "has_holdout": False}, True),
        ({"version": 2, "has_holdout": False}, False),
        ({"state": "archived"}, True),
        ({"version": 2, "metrics_version": 2, "state": "finished"}, True),
        ({"version": 2, "metrics_version": 2, "state": "finished", "stopped_for": WAITS}, False),
    ],
)
def test_a_project_is_finished_once_its_last_version_is_evaluated(changes, finished):
    assert ProjectStatus(project="p", versions_planned=3, **changes).finished is finished
