"""What a volunteer is told of a project's permission: ten days before its end, and afterwards."""

from __future__ import annotations

import pytest

from pleb_agent.core.permission import permission_notice

DAY = 24 * 3600
ENDS = 1_797_897_600.0  # the end of 2026-12-21 (UTC)


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (ENDS - 10 * DAY - 1, None),
        (ENDS - 10 * DAY + 1, "ends on 2026-12-22"),
        (ENDS - 1, "ends on 2026-12-22"),
        (ENDS, "ended on 2026-12-22"),
        (ENDS + 9 * DAY, "ended on 2026-12-22"),
    ],
)
def test_the_notice_comes_ten_days_before_the_end(now, said):
    notice = permission_notice(ENDS, now)
    assert notice is None if said is None else said in str(notice)


def test_a_project_whose_metadata_is_not_known_has_none():
    assert permission_notice(0, ENDS) is None
