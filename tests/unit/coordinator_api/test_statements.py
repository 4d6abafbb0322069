"""Times and protocol versions of signed requests; ranges of blobs."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from pleb_coordinator.api.blob_files import parse_range
from pleb_coordinator.api.requests import check_statement, choose_protocol
from pleb_shared.errors import Refusal, RefusalCode

NOW = 1_800_000_000.0


@dataclass
class Statement:
    issued_at: int
    expires_at: int
    protocols: tuple[int, ...] = (1,)


def code_of(call, *arguments):
    with pytest.raises(Refusal) as caught:
        call(*arguments)
    return caught.value.code


@pytest.mark.parametrize(
    ("issued", "expires"), [(0, 900), (0, 0), (-600, 300), (599, 700), (-10, 60)]
)
def test_times_that_hold(issued, expires):
    check_statement(Statement(int(NOW) + issued, int(NOW) + expires), NOW)


@pytest.mark.parametrize(
    ("issued", "expires", "code"),
    [
        (-601, -400, RefusalCode.CLOCK_SKEW),
        (601, 700, RefusalCode.CLOCK_SKEW),
        (0, 901, RefusalCode.EXPIRED),
        (0, -1, RefusalCode.EXPIRED),
        (-200, -100, RefusalCode.EXPIRED),
    ],
)
def test_times_that_do_not(issued, expires, code):
    statement = Statement(int(NOW) + issued, int(NOW) + expires)
    assert code_of(check_statement, statement, NOW) == code


@pytest.mark.parametrize(
    ("seconds", "said"), [(-7200, "2 h behind"), (7200, "2 h ahead of"), (5 * 86_400, "5 days")]
)
def test_a_wrong_clock_is_told_by_how_much(seconds, said):
    statement = Statement(int(NOW) + seconds, int(NOW) + seconds + 60)
    with pytest.raises(Refusal, match=said):
        check_statement(statement, NOW)


def test_the_highest_common_protocol_is_chosen():
    assert choose_protocol(Statement(0, 0, (1, 7))) == 1
    with pytest.raises(Refusal, match="coordinator must be updated"):
        choose_protocol(Statement(0, 0, (7, 8)))


@pytest.mark.parametrize(
    ("header", "span"),
    [
        (None, (0, 100)),
        ("bytes=0-", (0, 100)),
        ("bytes=10-19", (10, 20)),
        ("bytes=90-1000", (90, 100)),
        ("bytes=99-99", (99, 100)),
    ],
)
def test_ranges(header, span):
    assert parse_range(header, 100) == span


@pytest.mark.parametrize(
    "header",
    ["bytes=100-", "bytes=20-10", "bytes=-5", "bytes=0-1,5-6", "items=0-1", "bytes=a-b", ""],
)
def test_ranges_that_are_refused(header):
    assert code_of(parse_range, header, 100) == RefusalCode.BAD_RANGE
