"""Sealed messages of a household, its code, and everything that is not one of them."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from pleb_agent.lan.household import (
    CODE_SECONDS,
    Household,
    HouseholdAct,
    HouseholdRequest,
    MemberState,
    code_key,
    open_sealed,
    read_code,
    seal,
)
from pleb_shared.errors import InputError, Refusal

KEY = bytes(range(32))
CODE = "ABCDEFGHJK23"


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def state(name="den") -> MemberState:
    return MemberState(
        name=name,
        activity="working",
        text="Free to work.",
        template="Free to work.",
        values={},
        paused=False,
        projects=["Letters"],
        progress=0.5,
        accepted=3,
        credit_flops=1e12,
        energy_kwh=0.5,
        from_neighbours=7,
        to_neighbours=8,
    )


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def two(tmp_path, clock):
    """Two PCs of one household; what the second was asked is in its `asked`."""
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        found.append(Household(tmp_path / name / "household.secret", name.encode().hex(), clock))
    first, second = found
    first.show_code(CODE, code_key(CODE))
    request = second.ask_to_join(first.peer, code_key(CODE))
    second.accept(first.admit(request), request, code_key(CODE))
    asked: list[HouseholdRequest] = []

    def answer(request: HouseholdRequest) -> MemberState:
        asked.append(request)
        return state()

    second.answer = answer
    return first, second, asked


def test_what_is_sealed_is_opened_with_the_same_key_use_and_subject_only():
    sealed = seal(KEY, "request", b"hello", b"about")
    assert open_sealed(KEY, "request", sealed, b"about") == b"hello"
    assert seal(KEY, "request", b"hello") != seal(KEY, "request", b"hello")
    wrong = [
        (bytes(32), "request", sealed, b"about"),
        (KEY, "answer", sealed, b"about"),
        (KEY, "request", sealed, b""),
        (KEY, "request", sealed[:-1], b"about"),
        (KEY, "request", sealed[:-1] + bytes([sealed[-1] ^ 1]), b"about"),
        (KEY, "request", b"", b"about"),
    ]
    for given in wrong:
        with pytest.raises(ValueError, match="not sealed"):
            open_sealed(*given)


def test_members_answer_each_other(two):
    first, second, asked = two
    request = first.request(second.peer, HouseholdAct.PRESET, "quiet")
    assert first.read_answer(second.take(request), request) == state()
    assert (asked[0].act, asked[0].preset) == (HouseholdAct.PRESET, "quiet")


def test_an_answer_belongs_to_its_request(two):
    first, second, _ = two
    one = first.request(second.peer, HouseholdAct.SHOW)
    other = first.request(second.peer, HouseholdAct.SHOW)
    with pytest.raises(ValueError, match="not sealed"):
        first.read_answer(second.take(one), other)


def test_an_act_counts_once_and_only_for_whom_it_is_for_and_in_time(two, clock):
    first, second, asked = two
    pause = first.request(second.peer, HouseholdAct.PAUSE)
    second.take(pause)
    with pytest.raises(Refusal):
        second.take(pause)
    with pytest.raises(Refusal):
        second.take(first.request("beef", HouseholdAct.PAUSE))
    early = first.request(second.peer, HouseholdAct.PAUSE)
    clock.now += 601
    with pytest.raises(Refusal):
        second.take(early)
    assert len(asked) == 1
    clock.now += 700  # what was seen may be forgotten: it is too old to be taken
    with pytest.raises(Refusal):
        second.take(pause)


def test_nobody_can_make_it_remember_without_end(two):
    first, second, asked = two
    for _ in range(1000):
        second.take(first.request(second.peer, HouseholdAct.RESUME))
    with pytest.raises(Refusal):
        second.take(first.request(second.peer, HouseholdAct.RESUME))
    second.take(first.request(second.peer, HouseholdAct.SHOW))
    assert len(asked) == 1001


@pytest.mark.parametrize(
    "sealed",
    [b"", b"x" * 11, b"x" * 200, seal(bytes(32), "request", b"{}")],
    ids=["nothing", "cut", "garbage", "another key's"],
)
def test_strangers_are_refused(two, sealed):
    _, second, asked = two
    with pytest.raises(Refusal, match="Only members"):
        second.take(sealed)
    with pytest.raises(Refusal, match="Only members"):
        second.admit(sealed)
    assert asked == []


def test_a_member_that_says_more_is_understood_and_one_that_says_nonsense_is_not(two):
    first, second, _ = two
    assert second.key is not None
    more = msgspec.to_builtins(state()) | {"new": 1}
    for said, fits in ((more, True), (more | {"progress": 2}, False), ({}, False)):
        request = first.request(second.peer, HouseholdAct.SHOW)
        about = hashlib.sha256(request).digest()
        answer = seal(second.key, "answer", msgspec.json.encode(said), about)
        if fits:
            assert first.read_answer(answer, request) == state()
        else:
            with pytest.raises(ValueError, match=r"Expected|missing"):
                first.read_answer(answer, request)


# -- the code --------------------------------------------------------------------------------


@pytest.fixture
def host(tmp_path, clock):
    found = Household(tmp_path / "household.secret", "aa", clock)
    found.show_code(CODE, code_key(CODE))
    return found


def test_a_code_is_good_once(host):
    host.admit(host.ask_to_join("aa", code_key(CODE)))
    assert host.shown_code() is None
    with pytest.raises(Refusal):
        host.admit(host.ask_to_join("aa", code_key(CODE)))


def test_a_code_ends_after_ten_minutes(host, clock):
    assert len(host.beacon_keys) == 2
    clock.now += CODE_SECONDS
    assert len(host.beacon_keys) == 1
    with pytest.raises(Refusal):
        host.admit(host.ask_to_join("aa", code_key(CODE)))


def test_a_code_ends_after_five_wrong_tries(host):
    for _ in range(5):
        with pytest.raises(Refusal):
            host.admit(host.ask_to_join("aa", bytes(32)))
    assert host.shown_code() is None


def test_who_asks_another_pc_does_not_get_the_key(host):
    with pytest.raises(Refusal):
        host.admit(host.ask_to_join("bb", code_key(CODE)))
    assert host.shown_code() is not None


def test_a_code_is_shown_in_groups_and_read_as_people_type_it(host):
    assert host.shown_code().text == "ABCD-EFGH-JK23"
    for typed in ("ABCD-EFGH-JK23", " abcd efgh jk23 ", "ABCDEFGHJK23"):
        assert read_code(typed) == CODE
    for wrong in ("", "ABCD-EFGH", "ABCD-EFGH-JK2O", "ABCD-EFGH-JK23-ABCD", "\x00" * 12):
        with pytest.raises(InputError, match="A code has 12"):
            read_code(wrong)
    assert read_code(Household.new_letters())


def test_the_key_is_kept_private_and_ends_with_leaving(host, tmp_path, clock):
    path = tmp_path / "household.secret"
    assert path.stat().st_mode & 0o777 == 0o600
    again = Household(path, "bb", clock)
    assert again.key == host.key
    again.leave()
    assert not path.exists()
    assert again.beacon_keys == []
    with pytest.raises(InputError, match="in no household"):
        again.request("aa", HouseholdAct.SHOW)
    with pytest.raises(Refusal):
        again.take(host.request("bb", HouseholdAct.SHOW))
    again.leave()  # harmless


@pytest.mark.parametrize("kept", [b"", b"short", bytes(64)])
def test_a_damaged_key_is_none(tmp_path, clock, kept):
    path = tmp_path / "household.secret"
    path.write_bytes(kept)
    assert Household(path, "aa", clock).key is None
