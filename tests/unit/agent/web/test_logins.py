"""Codes work once and for a minute; cookies outlive agentd; tokens belong to one session."""

from __future__ import annotations

import itertools

import pytest

from pleb_agent.web.guard import CODE_SECONDS, COOKIE_SECONDS, BrowserLogins, CodeError
from pleb_shared.errors import InputError

SECRET = bytes(range(32))


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def sessions(clock: Clock, secret: bytes = SECRET) -> BrowserLogins:
    numbers = itertools.count(1)
    return BrowserLogins(secret, clock, lambda count: next(numbers).to_bytes(count, "big"))


def test_a_code_works_once():
    clock = Clock()
    page = sessions(clock)
    code = page.new_code()
    assert page.is_valid(page.redeem(code))
    with pytest.raises(CodeError, match="pleb-agent open"):
        page.redeem(code)


@pytest.mark.parametrize(("late", "works"), [(CODE_SECONDS, True), (CODE_SECONDS + 1, False)])
def test_a_code_works_for_a_minute(late, works):
    clock = Clock()
    page = sessions(clock)
    code = page.new_code()
    clock.now += late
    if works:
        page.redeem(code)
    else:
        with pytest.raises(CodeError):
            page.redeem(code)


@pytest.mark.parametrize("code", ["", "0" * 48, "ü", "x" * 10_000])
def test_unknown_codes_are_refused(code):
    page = sessions(Clock())
    page.new_code()
    with pytest.raises(CodeError):
        page.redeem(code)


def test_only_the_newest_codes_are_kept():
    page = sessions(Clock())
    codes = [page.new_code() for _ in range(50)]
    page.redeem(codes[-1])
    with pytest.raises(CodeError):
        page.redeem(codes[0])


def test_a_cookie_outlives_agentd_but_not_its_secret():
    clock = Clock()
    before = sessions(clock)
    cookie = before.redeem(before.new_code())
    assert sessions(clock).is_valid(cookie)
    assert sessions(clock).cookie_name == before.cookie_name
    other = sessions(clock, SECRET[::-1])
    assert not other.is_valid(cookie)
    assert other.cookie_name != before.cookie_name


@pytest.mark.parametrize(("age", "valid"), [(COOKIE_SECONDS, True), (COOKIE_SECONDS + 1, False)])
def test_a_cookie_ends(age, valid):
    clock = Clock()
    page = sessions(clock)
    cookie = page.redeem(page.new_code())
    clock.now += age
    assert page.is_valid(cookie) is valid


def test_a_modified_cookie_is_refused():
    page = sessions(Clock())
    cookie = page.redeem(page.new_code())
    for place in range(len(cookie)):
        sign = "0" if cookie[place] != "0" else "1"
        assert not page.is_valid(cookie[:place] + sign + cookie[place + 1 :])
    for wrong in ("", ".", "..", "a.b.c", cookie + "0", cookie[1:], "é" * 40, "1" * 10_000):
        assert not page.is_valid(wrong)


def test_a_change_token_belongs_to_its_log_in():
    page = sessions(Clock())
    mine, other = page.redeem(page.new_code()), page.redeem(page.new_code())
    assert page.may_change(mine, page.change_token(mine))
    assert not page.may_change(mine, page.change_token(other))
    for wrong in ("", mine, "é", "0" * 64):
        assert not page.may_change(mine, wrong)


def test_a_short_secret_is_refused():
    with pytest.raises(InputError, match="32 bytes"):
        BrowserLogins(b"short", Clock(), bytes)
